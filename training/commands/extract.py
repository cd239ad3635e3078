"""`extract`: images and captions → activation store."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

import torch

from training.activations.builder import Made
from training.activations.extraction import extract, make_plan
from training.activations.manifest import SHARD_FILE, ShardRecord, load
from training.encoders import load_encoder
from training.recipes import RECIPES
from training.sources import SOURCES, open_source

HELP = "images and captions → activation store, for each stream of a recipe"

SHOWN = 5
"""Skipped rows printed at the end; `shard.json` lists all."""

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Recipe, data, encoders, and what shapes the store."""
    parser.add_argument("--recipe", required=True, choices=RECIPES, help="encoders and source")
    parser.add_argument("--data", required=True, type=Path, help="folder that holds the data")
    parser.add_argument("--source", choices=SOURCES, help="how it is laid out, if not as usual")
    parser.add_argument("--encoders", type=Path, help="folder of the encoders' weights")
    parser.add_argument(
        "--join",
        nargs="+",
        default=(),
        metavar="STREAM",
        help="also encode with these of the recipe's joining encoders",
    )
    parser.add_argument("--out", required=True, type=Path, help="the store")
    parser.add_argument("--limit", type=positive, help="read only the first items")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    parser.add_argument(
        "--shard-size", type=positive, default=4096, help="items a shard; a kill loses at most one"
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), help="default: cuda where there is one"
    )
    parser.add_argument("--batch-size", type=positive, default=16, help="rows encoded together")
    parser.add_argument(
        "--threads", type=positive, default=min(8, os.cpu_count() or 1), help="image decoders"
    )


def run(args: argparse.Namespace) -> None:
    """Extract, or say that it is done already."""
    recipe = RECIPES[args.recipe]()
    source = open_source(args.source or recipe.source, args.data)
    log.info("look through %s", args.data)
    scan = source.scan()
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    encoders = {
        name: load_encoder(config, args.encoders or recipe.encoders, device)
        for name, config in recipe.encoders_of(args.join).items()
    }
    plan = make_plan(
        recipe.name,
        source,
        scan,
        encoders,
        dtype=args.dtype,
        shard_size=args.shard_size,
        batch_size=args.batch_size,
        limit=args.limit,
        device=device,
    )
    report(extract(plan, source, scan, encoders, args.out, threads=args.threads), args.out)


def report(made: Made, out: Path) -> None:
    """Print what the store holds and what was left out."""
    manifest = made.manifest
    if made.already:
        print(f"{out} is complete already; nothing was done")
    splits = ", ".join(f"{rows:,} {split}" for split, rows in manifest.splits.items())
    print(f"{out}: {manifest.num_rows:,} rows ({splits}), {len(manifest.label_names)} labels")
    for stream in manifest.plan.streams:
        vectors, present = manifest.vectors[stream.name], manifest.present[stream.name]
        print(f"  {stream.name}: {vectors:,} vectors of {stream.d_in} for {present:,} rows")
    if manifest.skipped or manifest.dropped_captions:
        _report_skipped(made, out)


def _report_skipped(made: Made, out: Path) -> None:
    manifest = made.manifest
    print(
        f"  left out: {manifest.skipped:,} rows and {manifest.dropped_captions:,} captions of other"
        f" rows; all are listed with their reasons in {out}/shards/*/{SHARD_FILE}"
    )
    shown = 0
    for shard in manifest.shards:
        if shown >= SHOWN:
            return
        if not shard.skipped and not shard.dropped_captions:
            continue
        record = load(ShardRecord, out / "shards" / shard.name / SHARD_FILE)
        for left_out in (*record.skipped, *record.dropped_captions)[: SHOWN - shown]:
            print(f"    {left_out.id}: {left_out.reason}")
            shown += 1


def positive(text: str) -> int:
    """An option's value above 0."""
    value = int(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return value
