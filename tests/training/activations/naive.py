"""Stores with ragged streams, and the plainest way to read them back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from koine.streams import StreamSpec
from training.activations import ActivationStore, Row
from training.activations.builder import open_builder
from training.activations.manifest import DType, SourceIdentity, StorePlan
from training.activations.rows import SPLITS
from training.activations.shards import Vectors

LABELS = ("boat", "cat", "dog")


class Truth(NamedTuple):
    """What went into a store."""

    rows: list[Row]
    vectors: dict[str, list[np.ndarray]]
    """By stream and row: [m, D]."""


def truth(rows: int, counts: Sequence[tuple[int, int]], seed: int = 0) -> Truth:
    """Rows with as many vectors of stream `s0`, `s1`, … as drawn from each range (low, high)."""
    rng = np.random.default_rng(seed)
    vectors = {
        f"s{i}": [
            rng.standard_normal((rng.integers(low, high + 1), 3 + i)).astype(np.float32)
            for _ in range(rows)
        ]
        for i, (low, high) in enumerate(counts)
    }
    known = [
        Row(
            f"row {i}",
            tuple(f"caption {c}" for c in range(rng.integers(0, 4))),
            tuple(label for label in LABELS if rng.random() < 0.4),
            SPLITS[rng.integers(0, 3)],
        )
        for i in range(rows)
    ]
    return Truth(known, vectors)


def plan_of(truth: Truth, shard_size: int, dtype: DType = "float32") -> StorePlan:
    """A plan with the streams of a truth."""
    widths = {name: per_row[0].shape[1] for name, per_row in truth.vectors.items()}
    return StorePlan(
        recipe=None,
        source=SourceIdentity(kind="test", fingerprint="sha256:0"),
        streams=tuple(
            StreamSpec(name=name, modality="vector", d_in=width) for name, width in widths.items()
        ),
        dtype=dtype,
        shard_size=shard_size,
        batch_size=1,
    )


def write_truth(path: Path, truth: Truth, shard_size: int, dtype: DType = "float32") -> None:
    """Write a truth as a store, each shard in two appends."""
    with open_builder(path, plan_of(truth, shard_size, dtype)) as builder:
        for start in range(builder.rows, len(truth.rows), shard_size):
            end = min(start + shard_size, len(truth.rows))
            middle = (start + end) // 2
            writer = builder.new_shard()
            for part in (range(start, middle), range(middle, end)):
                if part:
                    vectors = {
                        name: Vectors(
                            np.concatenate([per_row[i] for i in part]),
                            np.array([len(per_row[i]) for i in part], np.int64),
                        )
                        for name, per_row in truth.vectors.items()
                    }
                    writer.append([truth.rows[i] for i in part], vectors)
            builder.shards.append(writer.finish(end - start, [], []))
        builder.finish(LABELS)


def store_of(
    path: Path, truth: Truth, shard_size: int, dtype: DType = "float32"
) -> ActivationStore:
    """Write and open."""
    write_truth(path, truth, shard_size, dtype)
    return ActivationStore.open(path)
