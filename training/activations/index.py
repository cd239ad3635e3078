"""What is held in memory of a store's rows: split and vector positions, about 9 bytes a row."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
import pyarrow as pa
from jaxtyping import Int32, Int64, UInt8

from koine.errors import StoreError
from training.activations.manifest import ShardSummary, StoreManifest
from training.activations.rows import ROWS_FILE, SPLITS, codes_of, read_rows
from training.activations.shards import acts_file, offsets_file


class RowIndex(NamedTuple):
    """Where each row's vectors lie."""

    shard_starts: Int64[np.ndarray, "shards"]
    """Number of each shard's first row."""
    split_N: UInt8[np.ndarray, "N"]
    """Position of the row's split in `SPLITS`."""
    first: dict[str, Int32[np.ndarray, "N"]]
    """By stream: the row's first vector, counted within its shard."""
    counts: dict[str, Int32[np.ndarray, "N"]]
    """By stream: the row's vectors."""


def offsets_of(folder: Path, stream: str) -> Int64[np.ndarray, "M"]:
    """A shard's offsets of a stream: row i has the vectors [offsets[i], offsets[i + 1])."""
    try:
        return np.load(folder / offsets_file(stream), allow_pickle=False)
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{folder / offsets_file(stream)} cannot be read: {error}. Restore the file, or extract"
            " again into an empty folder."
        ) from error


def read_index(path: Path, manifest: StoreManifest) -> RowIndex:
    """Read the index; StoreError where rows and streams of a shard do not align."""
    streams = manifest.plan.streams
    splits: list[np.ndarray] = []
    first: dict[str, list[np.ndarray]] = {stream.name: [] for stream in streams}
    counts: dict[str, list[np.ndarray]] = {stream.name: [] for stream in streams}
    for shard in manifest.shards:
        folder = path / "shards" / shard.name
        splits.append(_splits(folder, shard))
        for stream in streams:
            offsets_M = _aligned_offsets(folder, shard, stream.name, stream.d_in)
            first[stream.name].append(offsets_M[:-1].astype(np.int32))
            counts[stream.name].append(np.diff(offsets_M).astype(np.int32))
    rows = np.array([0, *(shard.rows for shard in manifest.shards)], np.int64).cumsum()
    if rows[-1] != manifest.num_rows:
        _misaligned(path, f"shards hold {rows[-1]} rows, store.json says {manifest.num_rows}")
    return RowIndex(
        shard_starts=rows[:-1],
        split_N=np.concatenate(splits),
        first={name: np.concatenate(parts) for name, parts in first.items()},
        counts={name: np.concatenate(parts) for name, parts in counts.items()},
    )


def _splits(folder: Path, shard: ShardSummary) -> UInt8[np.ndarray, "M"]:
    try:
        column = read_rows(folder / ROWS_FILE, ["split"])["split"].combine_chunks()
    except (pa.ArrowException, OSError) as error:
        raise StoreError(
            f"{folder / ROWS_FILE} cannot be read: {error}. Restore the file, or extract again into"
            " an empty folder."
        ) from error
    if len(column) != shard.rows:
        _misaligned(folder, f"{ROWS_FILE} has {len(column)} rows, store.json says {shard.rows}")
    codes = codes_of(column, SPLITS)
    if codes.null_count:
        _misaligned(folder, f"{ROWS_FILE} has splits other than {', '.join(SPLITS)}")
    return codes.to_numpy(zero_copy_only=False).astype(np.uint8)


def _aligned_offsets(
    folder: Path, shard: ShardSummary, stream: str, width: int
) -> Int64[np.ndarray, "M"]:
    offsets_M = offsets_of(folder, stream)
    if len(offsets_M) != shard.rows + 1 or offsets_M[0] != 0 or (np.diff(offsets_M) < 0).any():
        _misaligned(
            folder,
            f"`{stream}` describes {len(offsets_M) - 1} rows, {ROWS_FILE} has {shard.rows}",
        )
    try:
        acts_MD = np.load(folder / acts_file(stream), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{folder / acts_file(stream)} cannot be read: {error}. Restore the file, or extract"
            " again into an empty folder."
        ) from error
    if acts_MD.shape != (int(offsets_M[-1]), width):
        _misaligned(
            folder,
            f"`{stream}` has vectors of shape {acts_MD.shape}, its rows need"
            f" {(int(offsets_M[-1]), width)}",
        )
    return offsets_M


def _misaligned(folder: Path, what: str) -> NoReturn:
    raise StoreError(
        f"The streams of {folder} do not align: {what}. Files of different stores were mixed;"
        " restore them, or extract again into an empty folder."
    )
