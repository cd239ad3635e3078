"""`migrate`: two dictionaries → which concept became which, and labels carried over."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import NamedTuple

from koine.errors import RequestError
from koine.labels import LabelLayer, Shown
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
        "--apply",
        type=Path,
        metavar="LABELS",
        help="carry labels over, in this directory of label layers (KOINE_LABELS)",
    )
    parser.add_argument("--by", metavar="NAME", help="who answers for what `--apply` writes")
    parser.add_argument("--seed", type=int, default=0, help="of the shuffles that tell chance")
    parser.add_argument(
        "--no-verify", action="store_true", help="skip the check of the store's SHA-256 hashes"
    )


def run(args: argparse.Namespace) -> None:
    """Match, write, and print how many concepts were found again and how surely."""
    if not 0 <= args.least <= 1:
        raise RequestError(f"`--least` must be between 0 and 1, got {args.least:g}")
    old, new = open_side(args.old), open_side(args.new)
    layers = None
    if args.apply is not None:
        if not args.by:
            raise RequestError("`--apply` needs `--by NAME`: who answers for the labels")
        layers = _layer(args.apply, old), _layer(args.apply, new)
    store = None
    if args.store is not None:
        store = ActivationStore.open(args.store, verify=not args.no_verify)
    migration = migrate(old, new, store, seed=args.seed)
    content = as_json(old, new, migration, store, args.least)
    write_atomic(args.out, (json.dumps(content, indent=1) + "\n").encode())
    print(summary(content))
    print(args.out)
    if layers is not None:
        _apply(*layers, migration, args.least, old, args.by)


class _Layer(NamedTuple):
    layer: LabelLayer
    shown: list[Shown]
    """Every concept's state when it was opened."""


def _layer(directory: Path, side: Side) -> _Layer:
    concepts = side.concepts
    if side.artifact is None or concepts is None:
        raise RequestError(
            f"`{side.path}` has no artifact, which labels belong to: export it, or give the "
            "artifact itself"
        )
    layer = LabelLayer(directory, side.artifact, concepts)
    labels = layer.labels()
    return _Layer(layer, [layer.shown(concept.id, labels) for concept in concepts])


def _apply(
    old: _Layer, new: _Layer, migration: Migration, least: float, side: Side, person: str
) -> None:
    assert side.artifact is not None
    edits = carried(
        old.shown,
        new.shown,
        migration.matches,
        history=new.layer.labels().history,
        source=f"migrated from {side.artifact.manifest.title}",
        label_from=least,
        verified_from=max(least, VERIFIED_FROM),
    )
    changes = new.layer.append(edits, person=person)
    judged = sum(change.after.status != "proposed" for change in changes)
    print(
        f"{new.layer.path}: {len(changes):,} concepts took a label or a judgement; "
        f"{judged:,} of them as people had judged the old one"
    )
