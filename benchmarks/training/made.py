"""Synthetic activation stores of any size, and the trainer's own step over them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from koine.streams import StreamSpec
from training.activations.builder import open_builder
from training.activations.manifest import SourceIdentity, StorePlan
from training.activations.rows import Row
from training.activations.shards import Vectors

WIDTHS = {"dino": 1024, "clip_image": 768, "clip_text": 768}
"""DINOv2 ViT-L/14 and CLIP ViT-L/14, as in the `open-images` recipe."""
ATOMS = 256
BLOCK = 4096


def write_store(
    path: Path, rows: int, widths: Mapping[str, int] = WIDTHS, *, shard_rows: int = 65_536
) -> None:
    """Training rows that show the same few of `ATOMS` atoms in every stream, with noise."""
    rng = np.random.default_rng(0)
    atoms = {n: rng.standard_normal((ATOMS, d), np.float32) for n, d in widths.items()}
    plan = StorePlan(
        recipe=None,
        source=SourceIdentity(kind="synthetic", fingerprint="sha256:none"),
        streams=tuple(StreamSpec(name=n, modality="vector", d_in=d) for n, d in widths.items()),
        dtype="float32",
        shard_size=shard_rows,
        batch_size=BLOCK,
    )
    with open_builder(path, plan) as builder:
        while (done := builder.rows) < rows:
            size = min(shard_rows, rows - done)
            with builder.new_shard() as shard:
                for start in range(done, done + size, BLOCK):
                    block = range(start, min(start + BLOCK, done + size))
                    named = [Row(str(number), (), (), "train") for number in block]
                    shard.append(named, _vectors(rng, atoms, len(block)))
                builder.shards.append(shard.finish(size, [], []))
        builder.finish()


def _vectors(
    rng: np.random.Generator, atoms: Mapping[str, np.ndarray], count: int
) -> dict[str, Vectors]:
    codes_NA = rng.random((count, ATOMS), np.float32)
    codes_NA *= rng.random((count, ATOMS), np.float32) < 0.05
    ones_N = np.ones(count, np.int64)
    found: dict[str, Vectors] = {}
    for name, atoms_AD in atoms.items():
        noise_ND = rng.standard_normal((count, atoms_AD.shape[1]), np.float32)
        found[name] = Vectors(codes_NA @ atoms_AD + 0.1 * noise_ND, ones_N)
    return found
