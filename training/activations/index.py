"""What is held in memory of a row: a byte for its split, 8 for a stream of many vectors a row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
import pyarrow as pa
from jaxtyping import Int32, Int64, UInt8

from koine.errors import StoreError
from training.activations.manifest import ShardSummary, StoreManifest
from training.activations.rows import ROWS_FILE, SPLITS, codes_of, read_rows
from training.activations.shards import acts_file, offsets_file


class Spans(NamedTuple):
    """A stream's vectors of each row."""

    first_N: Int32[np.ndarray, "N"]
    """Counted within the row's shard."""
    counts_N: Int32[np.ndarray, "N"]


class RowIndex(NamedTuple):
    """Where each row's vectors lie."""

    shard_starts: Int64[np.ndarray, "shards"]
    """Number of each shard's first row."""
    split_N: UInt8[np.ndarray, "N"]
    """Position of the row's split in `SPLITS`."""
    spans: dict[str, Spans | None]
    """By stream; None where every row has exactly one vector, which nothing need say."""

    def shards_of(self, rows_N: Int64[np.ndarray, "N"]) -> Int64[np.ndarray, "N"]:
        """The shard that each row lies in."""
        return np.searchsorted(self.shard_starts, rows_N, side="right") - 1

    def first(self, stream: str, rows_N: Int64[np.ndarray, "N"]) -> Int64[np.ndarray, "N"]:
        """Each row's first vector, counted within its shard."""
        spans = self.spans[stream]
        if spans is None:
            return rows_N - self.shard_starts[self.shards_of(rows_N)]
        return spans.first_N[rows_N].astype(np.int64)

    def counts(self, stream: str, rows_N: Int64[np.ndarray, "N"]) -> Int64[np.ndarray, "N"]:
        """Each row's vectors."""
        spans = self.spans[stream]
        return np.ones_like(rows_N) if spans is None else spans.counts_N[rows_N].astype(np.int64)


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
    spans: dict[str, list[Spans | int]] = {stream.name: [] for stream in streams}
    for shard in manifest.shards:
        folder = path / "shards" / shard.name
        splits.append(_splits(folder, shard))
        for stream in streams:
            offsets_M = _aligned_offsets(folder, shard, stream.name, stream.d_in)
            spans[stream.name].append(_spans(offsets_M))
    rows = np.array([0, *(shard.rows for shard in manifest.shards)], np.int64).cumsum()
    if rows[-1] != manifest.num_rows:
        _misaligned(path, f"shards hold {rows[-1]} rows, store.json says {manifest.num_rows}")
    return RowIndex(
        shard_starts=rows[:-1],
        split_N=np.concatenate(splits),
        spans={name: _joined(parts) for name, parts in spans.items()},
    )


def _spans(offsets_M: Int64[np.ndarray, "M"]) -> Spans | int:
    """A shard's spans, or its rows where each has one vector."""
    counts_N = np.diff(offsets_M).astype(np.int32)
    return (
        len(counts_N) if (counts_N == 1).all() else Spans(offsets_M[:-1].astype(np.int32), counts_N)
    )


def _joined(parts: Sequence[Spans | int]) -> Spans | None:
    if all(isinstance(part, int) for part in parts):
        return None
    whole = [
        Spans(np.arange(part, dtype=np.int32), np.ones(part, np.int32))
        if isinstance(part, int)
        else part
        for part in parts
    ]
    return Spans(*(np.concatenate(columns) for columns in zip(*whole, strict=True)))


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
