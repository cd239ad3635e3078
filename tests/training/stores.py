"""Small activation stores with a known truth: streams that show the same sparse atoms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from koine.streams import StreamSpec
from training.activations.builder import open_builder
from training.activations.manifest import SourceIdentity, StorePlan
from training.activations.rows import Row, Split
from training.activations.shards import Vectors
from training.activations.store import ActivationStore

ATOMS = 24
ACTIVE = 3
SPLITS: tuple[Split, ...] = ("train", "train", "train", "val", "test")
"""Of row i: SPLITS[i % 5]."""


def write_store(
    path: Path,
    streams: Mapping[str, Sequence[np.ndarray]],
    labels: Sequence[Sequence[str]] | None = None,
) -> ActivationStore:
    """A one-shard store; `streams[name][row]` is [M, D], M = 0 where the row lacks the stream."""
    specs = tuple(
        StreamSpec(name=name, modality="vector", d_in=vectors[0].shape[1])
        for name, vectors in streams.items()
    )
    num_rows = len(next(iter(streams.values())))
    plan = StorePlan(
        recipe=None,
        source=SourceIdentity(kind="test", fingerprint="sha256:none"),
        streams=specs,
        dtype="float32",
        shard_size=num_rows + 1,
        batch_size=num_rows,
    )
    rows = [
        Row(str(i), (), tuple(labels[i]) if labels else (), SPLITS[i % len(SPLITS)])
        for i in range(num_rows)
    ]
    vectors = {
        name: Vectors(
            np.concatenate(per_row).astype(np.float32),
            np.array([len(v) for v in per_row], np.int64),
        )
        for name, per_row in streams.items()
    }
    with open_builder(path, plan) as builder:
        shard = builder.new_shard()
        shard.append(rows, vectors)
        builder.shards.append(shard.finish(num_rows, [], []))
        builder.finish()
    return ActivationStore.open(path)


def atoms_store(path: Path, num_rows: int = 400, *, unpaired: bool = False) -> ActivationStore:
    """Three streams of widths 20, 16 and 12 over ATOMS shared atoms, ACTIVE in each row.

    The text-like stream `words` has three noisy vectors a row; with `unpaired`, every seventh row
    lacks `other`. A row's labels are its atoms.
    """
    rng = np.random.default_rng(5)
    gains = rng.gamma(4, 0.25, (num_rows, ATOMS))
    ranks = rng.random((num_rows, ATOMS)).argsort(1)
    codes_NC = np.where(ranks < ACTIVE, gains, 0.0)
    streams: dict[str, list[np.ndarray]] = {}
    for name, width, copies in (("image", 20, 1), ("other", 16, 1), ("words", 12, 3)):
        atoms_CD = rng.standard_normal((ATOMS, width))
        atoms_CD /= np.linalg.norm(atoms_CD, axis=1, keepdims=True)
        clean_ND = codes_NC @ atoms_CD + rng.standard_normal(width) * 0.5
        noisy = clean_ND[:, None] + 0.02 * rng.standard_normal((num_rows, copies, width))
        streams[name] = [
            noisy[i, :0] if unpaired and name == "other" and i % 7 == 0 else noisy[i]
            for i in range(num_rows)
        ]
    labels = [[f"atom{c:02}" for c in np.flatnonzero(row_C)] for row_C in codes_NC]
    return write_store(path, streams, labels)
