"""`fit`: activation store → run directory."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from koine.errors import RequestError
from training.activations.store import ActivationStore
from training.configs import ALIGNED, SPARC_AS_PUBLISHED, FitConfig, SelectorConfig, aligned
from training.parallel import joined
from training.recipes import RECIPES
from training.trainer import best_device, fit

HELP = "fit an aligned dictionary on an activation store; the same command resumes"

_OVERRIDES: dict[str, tuple[type, str]] = {
    "num_concepts": (int, "dictionary size"),
    "k": (int, "concepts that an item activates"),
    "steps": (int, "optimizer steps"),
    "epochs": (float, "passes over the training rows, instead of --steps"),
    "batch_size": (int, "items a step"),
    "lr": (float, "Adam's peak learning rate"),
    "cross_weight": (float, "weight of cross-reconstruction; 0 leaves it out"),
    "stream_dropout": (float, "share of items for which one random stream selects alone"),
    "seed": (int, "of weights, shuffle, caption draws and stream dropout"),
    "validate_every": (int, "steps between validations"),
    "checkpoint_every": (int, "steps between resume states"),
}
"""Configuration fields that a flag may override: type and help."""

_CHOICES = {
    "method": (["koine", "sparc"], "sparc trains as published"),
    "selection": (["global", "local"], "one support for an item's streams, or each its own"),
    "selector": (
        ["shared", "pre_codes"],
        "shared: streams choose in a space that they share; pre_codes: by their pre-codes",
    ),
    "precision": (["auto", "fp32", "bf16"], "auto: bf16 autocast on CUDA, fp32 on CPU"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags; those not given come from the recipe."""
    parser.add_argument("--recipe", choices=sorted(RECIPES), help="where the defaults come from")
    parser.add_argument("--store", type=Path, required=True, help="activation store to fit on")
    parser.add_argument("--out", type=Path, required=True, help="run directory")
    parser.add_argument("--device", help="torch device; default: cuda where there is one")
    parser.add_argument(
        "--memory",
        type=float,
        metavar="GIB",
        help="most GiB that features may take in RAM or on the device; above, or with 0, they are"
        " memory-mapped; default: half of what is free",
    )
    parser.add_argument(
        "--no-verify", action="store_true", help="skip the check of the store's SHA-256 hashes"
    )
    for name, (kind, what) in _OVERRIDES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="N", help=what)
    parser.add_argument(
        "--pre-code-weight",
        type=float,
        metavar="N",
        help="of a selector: what a pre-code adds to its concept's score; more rebuilds better and"
        " agrees less",
    )
    for name, (choices, what) in _CHOICES.items():
        parser.add_argument(f"--{name}", choices=choices, help=what)


def run(args: argparse.Namespace) -> None:
    """Fit, and say where the result lies."""
    config = config_from(args)
    cuda = torch.device(args.device or best_device()).type == "cuda"
    with joined(cuda=cuda) as group:
        share = (group.rank, group.size)
        store = ActivationStore.open(args.store, verify=not args.no_verify, share=share)
        finished = (args.out / "fit.json").is_file()
        run_dir = fit(
            store,
            config,
            args.out,
            recipe=args.recipe,
            device=args.device,
            memory=args.memory,
            group=group,
        )
    if group.leads:
        _tell(run_dir, finished)


def _tell(run_dir: Path, finished: bool) -> None:
    record = json.loads((run_dir / "fit.json").read_text())
    state = "was finished already" if finished else f"took {record['seconds']} s"
    print(f"{run_dir}: {record['steps']} steps {state}; weights of step {record['kept_step']}")


def config_from(args: argparse.Namespace) -> FitConfig:
    """The recipe's configuration with the flags that were given laid over it.

    `--method sparc` sets everything to the published values first, so that only explicit flags
    (and the recipe's sizes) differ from them.
    """
    if args.method == "sparc" and args.selector == "shared":
        raise RequestError("`--method sparc` selects by pre-codes: leave `--selector` out")
    base = RECIPES[args.recipe]().fit if args.recipe else aligned()
    fields: dict[str, Any] = {}
    if args.method == "sparc":
        fields |= SPARC_AS_PUBLISHED
    if args.selector is not None:
        plain = {name: getattr(FitConfig(), name) for name in ALIGNED}
        fields |= ALIGNED if args.selector == "shared" else plain
    for name in (*_OVERRIDES, *_CHOICES.keys() - {"selector"}):
        if getattr(args, name) is not None:
            fields[name] = getattr(args, name)
    if args.steps is not None and args.epochs is not None:
        raise RequestError("both `--steps` and `--epochs` were given: give one")
    if args.epochs is not None:
        fields["steps"] = None
    if args.pre_code_weight is not None:
        fields["selector"] = _weighing(fields.get("selector", base.selector), args.pre_code_weight)
    return dataclasses.replace(base, **fields)


def _weighing(selector: SelectorConfig | None, weight: float) -> SelectorConfig:
    if selector is None:
        raise RequestError(
            f"`--pre-code-weight {weight:g}` was given, but streams select by their pre-codes "
            "alone: fit with `--selector shared`, or leave the flag out"
        )
    return dataclasses.replace(selector, pre_code_weight=weight)
