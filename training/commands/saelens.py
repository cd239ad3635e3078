"""`saelens`: run directory → a folder for each stream that SAELens loads."""

from __future__ import annotations

import argparse
from pathlib import Path

from training.interchange.saelens import write_views

HELP = "write each stream as a TopK autoencoder that SAELens loads"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which run and streams, where to."""
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="finished run directory")
    parser.add_argument("--out", type=Path, help="folder to write; default: RUN/saelens")
    parser.add_argument("--stream", action="append", help="only this stream; may be repeated")
    parser.add_argument("--store", type=Path, help="activation store; default: the run's")
    parser.add_argument(
        "--pre-codes",
        action="store_true",
        help="of a run with a selector: TopK over its pre-codes, which are other codes than served",
    )


def run(args: argparse.Namespace) -> None:
    """Write, and say how the views encode beside the streams."""
    out = args.out or args.run_dir / "saelens"
    views = write_views(
        args.run_dir, out, streams=args.stream, store=args.store, pre_codes=args.pre_codes
    )
    for view in views:
        a = view.agreement
        print(
            f"{out / view.stream}: support Jaccard {a.jaccard:.4f} with the stream's own codes on "
            f"{a.items:,} held-out items, values apart by {a.error:.1e}, fvu {a.fvu:.3f} "
            f"({a.stream_fvu:.3f} the stream's)"
        )
