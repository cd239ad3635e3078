"""Small activation stores with a known truth: streams that show the same sparse atoms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from koine.streams import StreamSpec
from training.activations.builder import open_builder
from training.activations.manifest import DType, SourceIdentity, StorePlan
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
    *,
    dtype: DType = "float32",
    shard_rows: int | None = None,
) -> ActivationStore:
    """A store, of one shard unless `shard_rows` says otherwise.

    `streams[name][row]` is [M, D], M = 0 where the row lacks the stream.
    """
    specs = tuple(
        StreamSpec(name=name, modality="vector", d_in=vectors[0].shape[1])
        for name, vectors in streams.items()
    )
    num_rows = len(next(iter(streams.values())))
    plan = StorePlan(
        recipe=None,
        source=SourceIdentity(kind="test", fingerprint="sha256:none"),
        streams=specs,
        dtype=dtype,
        shard_size=shard_rows or num_rows + 1,
        batch_size=num_rows,
    )
    rows = [
        Row(str(i), (), tuple(labels[i]) if labels else (), SPLITS[i % len(SPLITS)])
        for i in range(num_rows)
    ]
    with open_builder(path, plan) as builder:
        for start in range(0, num_rows, plan.shard_size):
            part = slice(start, start + plan.shard_size)
            shard = builder.new_shard()
            shard.append(rows[part], {name: _stacked(v[part]) for name, v in streams.items()})
            builder.shards.append(shard.finish(len(rows[part]), [], []))
        builder.finish()
    return ActivationStore.open(path)


def _stacked(per_row: Sequence[np.ndarray]) -> Vectors:
    counts_N = np.array([len(vectors_MD) for vectors_MD in per_row], np.int64)
    return Vectors(np.concatenate(per_row).astype(np.float32), counts_N)


def atoms_store(
    path: Path,
    num_rows: int = 400,
    *,
    unpaired: bool = False,
    dtype: DType = "float32",
    shard_rows: int | None = None,
) -> ActivationStore:
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
    return write_store(path, streams, labels, dtype=dtype, shard_rows=shard_rows)
