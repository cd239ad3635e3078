"""`migrate`: two dictionaries → which concept became which, and labels carried over."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from koine.concepts import Concept, read_concepts, write_concepts
from koine.errors import RequestError
from training.activations.files import write_atomic
from training.activations.store import ActivationStore
from training.migration.carry import LABEL_FROM, VERIFIED_FROM, carried
from training.migration.migrate import Migration, as_json, migrate, summary
from training.migration.sides import Side, open_side

HELP = "match the concepts of two dictionaries, and carry labels from the old to the new"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The two dictionaries, items to compare them on, and where results go."""
    parser.add_argument("old", type=Path, metavar="OLD", help="run or artifact that has labels")
    parser.add_argument("new", type=Path, metavar="NEW", help="run or artifact that gets them")
    parser.add_argument("--store", type=Path, help="items on which to compare what fires")
    parser.add_argument("--out", type=Path, required=True, help="the migration.json that is made")
    parser.add_argument(
        "--least",
        type=float,
        default=LABEL_FROM,
        metavar="P",
        help=f"confidence below which a concept has no counterpart; default: {LABEL_FROM}",
    )
    parser.add_argument(
        "--labels", type=Path, help="concepts.jsonl of OLD; default: its artifact's"
    )
    parser.add_argument(
        "--apply", type=Path, metavar="FILE", help="write NEW's concepts.jsonl with labels here"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the shuffles that tell chance")
    parser.add_argument(
        "--no-verify", action="store_true", help="skip the check of the store's SHA-256 hashes"
    )


def run(args: argparse.Namespace) -> None:
    """Match, write, and print how many concepts were found again and how surely."""
    if not 0 <= args.least <= 1:
        raise RequestError(f"`--least` must be between 0 and 1, got {args.least:g}")
    old, new = open_side(args.old), open_side(args.new)
    if args.labels is not None:
        old = old._replace(concepts=_labels(args.labels, old))
    if args.apply is not None and old.concepts is None:
        raise RequestError(
            f"`{args.old}` has no artifact, so nothing says what its concepts are called: export "
            "it, or give `--labels`"
        )
    store = None
    if args.store is not None:
        store = ActivationStore.open(args.store, verify=not args.no_verify)
    migration = migrate(old, new, store, seed=args.seed)
    content = as_json(old, new, migration, store, args.least)
    write_atomic(args.out, (json.dumps(content, indent=1) + "\n").encode())
    print(summary(content))
    print(args.out)
    if args.apply is not None:
        _apply(args.apply, old, new, migration, args.least)


def _apply(path: Path, old: Side, new: Side, migration: Migration, least: float) -> None:
    assert old.concepts is not None
    blank = new.concepts or [Concept(id=c) for c in range(new.num_concepts)]
    concepts = carried(
        old.concepts,
        blank,
        migration.matches,
        label_from=least,
        verified_from=max(least, VERIFIED_FROM),
    )
    write_concepts(path, concepts)
    changed = sum(a != b for a, b in zip(blank, concepts, strict=True))
    print(f"{path}: {changed:,} concepts took a label")


def _labels(path: Path, old: Side) -> list[Concept]:
    if not path.is_file():
        raise RequestError(f"`{path}` is no file: give the concepts.jsonl of `{old.path}`")
    concepts = read_concepts(path)
    if len(concepts) != old.num_concepts:
        raise RequestError(
            f"`{path}` lists {len(concepts)} concepts, `{old.path}` has {old.num_concepts}: give "
            "its own"
        )
    return concepts
