"""`python -m koine drift`: two sets of codes beside each other; computes nothing itself."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from koine.artifact import Artifact, is_artifact
from koine.concepts import concept_labels, read_concepts
from koine.manifest import CONCEPTS

_READS = "an artifact, a profile's file, or a .parquet of codes that `encode` wrote"


def add_drift(commands: Any) -> None:
    """Adds the command to the parser's."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "drift", help="compare two sets of codes", description="What changed, concept by concept."
    )
    parser.add_argument("reference", type=Path, metavar="REFERENCE", help=_READS)
    parser.add_argument("window", type=Path, metavar="WINDOW", help="the same, of later items")
    parser.add_argument("--artifact", type=Path, help="the dictionary that made the codes")
    parser.add_argument("--json", type=Path, help="file for everything that was found")
    parser.add_argument("--most", type=int, default=20, help="concepts listed a stream")
    parser.add_argument("--fail-on-drift", action="store_true", help="exit 1 on drift")
    parser.set_defaults(run=drift)


def drift(args: argparse.Namespace) -> int:
    """Compares two sets of codes, in words."""
    from koine.drift.compare import compare
    from koine.drift.offline import load_profile
    from koine.drift.report import as_json, as_text
    from koine.drift.verdict import DriftConfig

    named = args.artifact or (args.reference if is_artifact(args.reference) else None)
    artifact = Artifact.open(named, verify=False) if named else None
    found = compare(
        load_profile(args.reference, artifact), load_profile(args.window, artifact), DriftConfig()
    )
    labels = concept_labels(read_concepts(artifact.file(CONCEPTS))) if artifact else {}
    print(as_text(found, labels, args.most))
    if args.json is not None:
        args.json.write_text(as_json(found, labels), encoding="utf-8")
    drifted = any(v.state == "drift" for v in found.streams.values())
    return 1 if args.fail_on_drift and drifted else 0
