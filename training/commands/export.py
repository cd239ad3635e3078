"""`export`: run directory → artifact."""

from __future__ import annotations

import argparse
from pathlib import Path

from training.export.build import export

HELP = "export a fitted dictionary to an artifact, if torch and ONNX Runtime agree on it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to export, where to, and under which name."""
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="run directory that `fit` wrote")
    parser.add_argument("--out", type=Path, help="artifact directory; default: RUN/artifact")
    parser.add_argument("--name", help="name of the dictionary; default: the recipe's")
    parser.add_argument("--version", default="1", help="version of the dictionary; default: 1")
    parser.add_argument("--encoders", type=Path, help="folder of encoder weights")
    parser.add_argument("--store", type=Path, help="activation store; default: the run's")
    parser.add_argument("--names", type=Path, help="what `name` wrote; default: RUN/names")


def run(args: argparse.Namespace) -> None:
    """Export, and say how far torch and ONNX Runtime were apart."""
    out = args.out or args.run_dir / "artifact"
    exported = export(
        args.run_dir,
        out,
        name=args.name,
        version=args.version,
        encoders=args.encoders,
        store=args.store,
        names=args.names,
    )
    for parity in exported.parity:
        print(
            f"torch = ONNX Runtime: {parity.what}, {parity.items} items, "
            f"apart by {parity.error:.1e}, {parity.ties} ties"
        )
    manifest = exported.artifact.manifest
    size = sum(entry.bytes for entry in manifest.files.values())
    print(f"{out}: {manifest.title}, {len(manifest.files)} files, {size / 1e6:.1f} MB")
