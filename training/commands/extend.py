"""`extend`: a finished run and a store with a new stream → a run with that stream as well."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from training.activations.store import ActivationStore
from training.extension.config import ExtendConfig
from training.extension.extend import extend

HELP = "fit a new stream onto a finished run's dictionary, which stays as it is"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The dictionary, the pairs, and how long to distil."""
    default = ExtendConfig(stream="x")
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="finished run to extend")
    parser.add_argument(
        "--store",
        type=Path,
        required=True,
        help="activation store with the new stream and an existing one for the same items",
    )
    parser.add_argument("--stream", required=True, metavar="NAME", help="the new stream")
    parser.add_argument("--out", type=Path, required=True, help="run directory that is made")
    parser.add_argument("--pairs", type=int, metavar="N", help="items to use; default: all")
    parser.add_argument(
        "--steps",
        type=int,
        default=default.steps,
        metavar="N",
        help=f"steps after the closed forms; 0 keeps to those; default: {default.steps}",
    )
    parser.add_argument("--seed", type=int, default=default.seed, help="of pairs and their order")
    parser.add_argument(
        "--no-verify", action="store_true", help="skip the check of the store's SHA-256 hashes"
    )


def run(args: argparse.Namespace) -> None:
    """Extend, and say how the new stream does on the pairs that were kept out."""
    names = {field.name for field in dataclasses.fields(ExtendConfig)}
    given = {name: value for name, value in vars(args).items() if name in names}
    config = ExtendConfig(**given)
    store = ActivationStore.open(args.store, verify=not args.no_verify)
    finished = (args.out / "fit.json").is_file()
    extend(args.run_dir, store, config, args.out)
    record = json.loads((args.out / "fit.json").read_text())
    state = "was finished already" if finished else f"took {record['seconds']} s"
    judged = record["choose"]
    print(
        f"{args.out}: `{config.stream}` joined on {record['lineage']['pairs']:,} pairs; {state}; "
        f"weights of step {record['kept_step']}"
    )
    print(
        f"on the pairs kept out: agreement with the existing streams {judged['agreement']:.2f} "
        f"(Jaccard, 0 is chance); FVU {judged['fvu_self']:.2f} self, "
        f"{judged['fvu_cross']:.2f} cross"
    )
