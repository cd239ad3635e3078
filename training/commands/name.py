"""`name`: a finished run's concepts → names, evidence and exemplars, for `export` to take up."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from koine.concepts import Concept, read_concepts
from koine.manifest import CONCEPTS
from training.naming.check import check
from training.naming.config import NamingConfig
from training.naming.names import NAMES
from training.naming.naming import name, open_named
from training.naming.vocabulary import read_terms

HELP = "name the concepts of a run, show what they fire on, or measure how good names are"
SHOWN = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, the words, and what to leave out."""
    default = NamingConfig()
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="run directory that `fit` wrote")
    parser.add_argument("--vocabulary", type=Path, help="your own terms, one a line; they go first")
    parser.add_argument("--encoders", type=Path, help="folder of encoder weights")
    parser.add_argument("--store", type=Path, help="the run's activation store, if it has moved")
    parser.add_argument("--out", type=Path, help="where the names go; default: RUN/names")
    parser.add_argument("--data", type=Path, help="folder of the store's images, for thumbnails")
    parser.add_argument("--no-thumbnails", action="store_true", help="exemplars without pictures")
    parser.add_argument("--no-labels", action="store_true", help="do not use the store's labels")
    parser.add_argument(
        "--routes",
        choices=("both", "firing", "direction"),
        default=default.routes,
        help="how names are found; default: both",
    )
    parser.add_argument(
        "--min-score",
        type=float,
        default=default.min_score,
        help=f"leave a concept unnamed below this score; default: {default.min_score}",
    )
    parser.add_argument("--device", help="torch device; default: cuda where there is one")
    parser.add_argument(
        "--check", action="store_true", help="instead: measure names on held-out rows"
    )


def run(args: argparse.Namespace) -> None:
    """Name, or say that it is done already; or measure."""
    config = NamingConfig(
        routes=args.routes,
        labels=not args.no_labels,
        min_score=args.min_score,
        thumbnails=not args.no_thumbnails,
    )
    opened = open_named(
        args.run_dir,
        own=read_terms(args.vocabulary) if args.vocabulary else (),
        store=args.store,
        encoders=args.encoders,
        device=args.device,
    )
    if args.check:
        print(check(opened, config))
        return
    folder = args.out or args.run_dir / NAMES
    if not name(opened, config, folder, data=args.data):
        print(f"{folder} is complete already; nothing was done")
    _report(read_concepts(folder / CONCEPTS), folder)


def _report(concepts: list[Concept], folder: Path) -> None:
    named = [concept for concept in concepts if concept.label is not None]
    print(f"{folder}: {len(named):,} of {len(concepts):,} concepts have a name")
    for source, count in Counter(concept.source for concept in named).most_common():
        print(f"  {count:,} by {source}")
    for concept in sorted(named, key=lambda c: -(c.score or 0))[:SHOWN]:
        print(f"  {concept.id:6}  {concept.label}  {concept.score:.2f}")
