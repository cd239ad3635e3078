"""`python -m koine labels export|import|log`: the round trip of labels through a table."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from koine.artifact import Artifact
from koine.audit.entries import node_name
from koine.audit.journal import event_bytes
from koine.audit.log import AuditLog
from koine.audit.signing import read_signing_key
from koine.concepts import Concept, read_concepts
from koine.labels.changes import Change, Edit, State, stamp
from koine.labels.events import label_event
from koine.labels.layer import LabelLayer
from koine.labels.table import read_table, write_table
from koine.manifest import CONCEPTS

Command = Callable[[Any, str, Any, str], argparse.ArgumentParser]


class _Opened(NamedTuple):
    artifact: Artifact
    concepts: list[Concept]
    layer: LabelLayer


def add_labels(commands: Any, command: Command) -> None:
    """Adds `labels` and what it does; `command` makes the parser of one that takes an artifact."""
    text = "labels that people checked: to a table, back, and their history"
    group = commands.add_parser("labels", help=text, description=text)
    actions = group.add_subparsers(required=True, metavar="ACTION")
    exporting = command(actions, "export", export_table, "write every concept into a CSV table")
    exporting.add_argument("--out", type=Path, required=True, help="CSV file to write")
    importing = command(actions, "import", import_table, "apply what was edited in a table")
    importing.add_argument("table", type=Path, metavar="FILE.csv", help="what `export` wrote")
    importing.add_argument("--by", required=True, metavar="NAME", help="who made the changes")
    importing.add_argument("--dry-run", action="store_true", help="show them, change nothing")
    importing.add_argument(
        "--audit", type=Path, metavar="DIR", help="audit log to record them in (KOINE_AUDIT)"
    )
    importing.add_argument("--audit-key", type=Path, help="PEM file that signs it")
    showing = command(actions, "log", show_log, "print every change, oldest first")
    showing.add_argument("--concept", type=int, help="of this concept only")
    for action in (exporting, importing, showing):
        action.add_argument(
            "--labels", type=Path, required=True, help="directory of label layers (KOINE_LABELS)"
        )


def export_table(args: argparse.Namespace) -> int:
    """The layer to a table."""
    opened = _open(args)
    part = args.out.with_name(f".{args.out.name}.{os.getpid()}")
    try:
        labels = write_table(part, opened.artifact.digest, opened.concepts, opened.layer)
        os.replace(part, args.out)  # a table is whole or not there
    finally:
        part.unlink(missing_ok=True)
    print(f"{args.out}: {len(opened.concepts):,} concepts, labels at revision {labels.revision}")
    return 0


def import_table(args: argparse.Namespace) -> int:
    """What was edited in a table to the layer."""
    opened = _open(args)
    edits = read_table(args.table, opened.artifact.digest, opened.layer, args.by)
    if args.dry_run:
        changes = opened.layer.check(edits, person=args.by)
    elif args.audit is None:
        changes = opened.layer.append(edits, person=args.by)
    else:
        changes = _recorded(args, opened, edits)
    for change in changes:
        print(_line(change))
    what = "would be applied, nothing was changed" if args.dry_run else "applied"
    print(f"{args.table}: {len(changes)} changes {what}")
    return 0


def show_log(args: argparse.Namespace) -> int:
    """The layer's history."""
    opened = _open(args)
    labels = opened.layer.labels()
    wanted = labels.history
    if args.concept is not None:
        opened.layer.shown(args.concept)  # refuses an unknown one
        wanted = {args.concept: labels.history.get(args.concept, ())}
    changes = sorted((c for each in wanted.values() for c in each), key=lambda c: c.revision)
    for change in changes:
        print(_line(change))
    print(f"{opened.layer.path}: {len(changes)} changes, revision {labels.revision}")
    return 0


def _open(args: argparse.Namespace) -> _Opened:
    artifact = Artifact.open(args.artifact, verify=False)
    concepts = read_concepts(artifact.file(CONCEPTS))
    if args.labels.parent.is_dir():
        args.labels.mkdir(exist_ok=True)
    return _Opened(artifact, concepts, LabelLayer(args.labels, artifact, concepts))


def _recorded(args: argparse.Namespace, opened: _Opened, edits: Sequence[Edit]) -> list[Change]:
    """Applies the edits with the audit log open: one that cannot be written changes nothing."""
    signer = None if args.audit_key is None else read_signing_key(args.audit_key)
    with AuditLog(args.audit, f"labels-{node_name()}", signer=signer) as audit:
        changes = opened.layer.append(edits, person=args.by)
        events = [event_bytes(label_event(each, opened.artifact.digest)) for each in changes]
        audit.submit(events).result()
    return changes


def _line(change: Change) -> str:
    parts = [f"{change.revision:6}", stamp(change.time), f"{change.person}:"]
    parts.append(f"concept {change.concept}: {_told(change.before)} -> {_told(change.after)}")
    if change.source is not None:
        sure = "" if change.confidence is None else f", confidence {change.confidence:.2f}"
        parts.append(f"[{change.source}{sure}]")
    if change.reason:
        parts.append(f"({' '.join(change.reason.split())})")
    return "  ".join(parts)


def _told(state: State) -> str:
    return state.status if state.label is None else f"{state.status} {state.label!r}"
