"""Small activation stores with known concepts behind them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from koine.streams import StreamSpec
from training.activations import ActivationStore, Row
from training.activations.builder import open_builder
from training.activations.manifest import SourceIdentity, StorePlan
from training.activations.rows import Split
from training.activations.shards import Vectors

WIDTHS = {"alpha": 24, "beta": 16, "gamma": 20}
MISSING = 0.1
LABELS = ("red", "round", "large", "striped", "wooden", "wet", "tall", "soft")


def write_store(
    path: Path,
    *,
    items: int = 400,
    streams: int = 3,
    labelled: bool = True,
    captioned: bool = False,
    held_out: bool = True,
    seed: int = 0,
) -> ActivationStore:
    """Up to three views of items that hold some of eight things; `gamma` is missing in some."""
    widths = dict(list(WIDTHS.items())[:streams])
    random = np.random.default_rng(seed)
    holds_NL = random.random((items, len(LABELS))) < 0.25
    weights_NL = holds_NL * random.uniform(0.5, 1.5, holds_NL.shape)
    plan = StorePlan(
        recipe=None,
        source=SourceIdentity(kind="synthetic", fingerprint=f"seed:{seed}"),
        streams=tuple(StreamSpec(name=n, modality="vector", d_in=d) for n, d in widths.items()),
        dtype="float32",
        shard_size=items,
        batch_size=items,
    )
    rows = [_row(number, holds, items, labelled, held_out) for number, holds in enumerate(holds_NL)]
    if captioned:
        rows = [row._replace(captions=(" and ".join(("it is", *row.labels)),)) for row in rows]
    with open_builder(path, plan) as builder:
        shard = builder.new_shard()
        vectors = {}
        for name, d_in in widths.items():
            acts_ND = weights_NL @ random.normal(size=(len(LABELS), d_in)) + 0.5
            acts_ND += random.normal(0, 0.1, acts_ND.shape)
            there_N = random.random(items) >= (MISSING if name == "gamma" else 0)
            vectors[name] = Vectors(acts_ND[there_N].astype(np.float32), there_N.astype(np.int64))
        shard.append(rows, vectors)
        builder.shards.append(shard.finish(items, (), ()))
        builder.finish()
    return ActivationStore.open(path)


def _row(number: int, holds: np.ndarray, items: int, labelled: bool, held_out: bool) -> Row:
    split: Split = "train" if number < 0.6 * items else "val" if number < 0.7 * items else "test"
    if not held_out:
        split = "train"
    labels = tuple(name for name, held in zip(LABELS, holds, strict=True) if held)
    return Row(f"item-{number}", (), labels if labelled else (), split)
