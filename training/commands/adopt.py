"""`adopt`: SPARC's published checkpoint and a store of its streams → run directory."""

from __future__ import annotations

import argparse
from pathlib import Path

from koine.errors import RequestError
from training.activations.store import ActivationStore
from training.checkpoint import load_model
from training.interchange.adopt import adopt

HELP = "take over a dictionary that SPARC's published code trained, as a finished run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The checkpoint, and the activations that it is judged on."""
    parser.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="msae_checkpoint.pth of SPARC"
    )
    parser.add_argument("--config", type=Path, help="run_config.json; default: the one beside it")
    parser.add_argument(
        "--store", type=Path, required=True, help="activation store of the same encoders"
    )
    parser.add_argument("--out", type=Path, required=True, help="run directory")
    parser.add_argument(
        "--stream",
        action="append",
        default=[],
        metavar="STORE=CHECKPOINT",
        help="a stream that the checkpoint calls otherwise, as in clip_image=clip_img",
    )


def run(args: argparse.Namespace) -> None:
    """Adopt, and say what it is."""
    store = ActivationStore.open(args.store)
    out = adopt(args.checkpoint, store, args.out, run_config=args.config, names=_names(args.stream))
    config = load_model(out).config
    print(
        f"{out}: {config.num_concepts:,} concepts, k {config.k}, {config.selection} selection, "
        f"streams {', '.join(spec.name for spec in store.streams)}; evaluate and export it as any"
    )


def _names(given: list[str]) -> dict[str, str]:
    names: dict[str, str] = {}
    for text in given:
        ours, equals, theirs = text.partition("=")
        if not equals or not ours or not theirs or ours in names:
            raise RequestError(
                f"--stream {text!r}: expected STORE=CHECKPOINT once, as in clip_image=clip_img"
            )
        names[ours] = theirs
    return names
