"""`fit`: activation store → run directory."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from koine.errors import RequestError
from training.activations.store import ActivationStore
from training.configs import SPARC_AS_PUBLISHED, FitConfig
from training.recipes import RECIPES
from training.trainer import fit

HELP = "fit an aligned dictionary on an activation store; the same command resumes"

_OVERRIDES: dict[str, type] = {
    "num_concepts": int,
    "k": int,
    "steps": int,
    "epochs": float,
    "batch_size": int,
    "lr": float,
    "cross_weight": float,
    "stream_dropout": float,
    "seed": int,
    "validate_every": int,
    "checkpoint_every": int,
}
"""Configuration fields that a flag may override."""

_CHOICES = {
    "method": ["koine", "sparc"],
    "selection": ["global", "local"],
    "precision": ["auto", "fp32", "bf16"],
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags; those not given come from the recipe."""
    parser.add_argument("--recipe", choices=sorted(RECIPES), help="where the defaults come from")
    parser.add_argument("--store", type=Path, required=True, help="activation store to fit on")
    parser.add_argument("--out", type=Path, required=True, help="run directory")
    parser.add_argument("--device", help="torch device; default: cuda where there is one")
    parser.add_argument(
        "--no-verify", action="store_true", help="skip the check of the store's SHA-256 hashes"
    )
    for name, kind in _OVERRIDES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=kind.__name__)
    for name, choices in _CHOICES.items():
        parser.add_argument(f"--{name}", choices=choices)


def run(args: argparse.Namespace) -> None:
    """Fit, and say where the result lies."""
    config = config_from(args)
    store = ActivationStore.open(args.store, verify=not args.no_verify)
    finished = (args.out / "fit.json").is_file()
    run_dir = fit(store, config, args.out, recipe=args.recipe, device=args.device)
    record = json.loads((run_dir / "fit.json").read_text())
    state = "was finished already" if finished else f"took {record['seconds']} s"
    print(f"{run_dir}: {record['steps']} steps {state}; weights of step {record['kept_step']}")


def config_from(args: argparse.Namespace) -> FitConfig:
    """The recipe's configuration with the flags that were given laid over it.

    `--method sparc` sets everything to the published values first, so that only explicit flags
    (and the recipe's sizes) differ from them.
    """
    base = RECIPES[args.recipe]().fit if args.recipe else FitConfig()
    fields: dict[str, Any] = {}
    if args.method == "sparc":
        fields |= SPARC_AS_PUBLISHED
    for name in (*_OVERRIDES, *_CHOICES):
        if getattr(args, name) is not None:
            fields[name] = getattr(args, name)
    if args.steps is not None and args.epochs is not None:
        raise RequestError("both `--steps` and `--epochs` were given: give one")
    if args.epochs is not None:
        fields["steps"] = None
    return dataclasses.replace(base, **fields)
