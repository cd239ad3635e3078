"""Write one shard: row-aligned files that appear together or not at all; knows no encoder."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

from koine.artifact import sha256_file
from koine.errors import StoreError
from training.activations.files import fsync_file, fsync_folder, write_atomic
from training.activations.manifest import (
    SHARD_FILE,
    DType,
    FileRecord,
    ShardRecord,
    Skipped,
    dump,
)
from training.activations.rows import ROWS_FILE, Row, write_rows

TEMPORARY = ".tmp"


class Vectors(NamedTuple):
    """A stream's vectors for some rows, row after row."""

    acts_MD: Float32[np.ndarray, "M D"]
    counts_N: Int64[np.ndarray, "N"]
    """Vectors of each row; 0 where the row lacks the stream. Sums to M."""


def shard_name(index: int) -> str:
    """Folder of shard `index`."""
    return f"{index:05d}"


def acts_file(stream: str) -> str:
    """Name of the file with a stream's vectors in a shard."""
    return f"{stream}.npy"


def offsets_file(stream: str) -> str:
    """Name of the file that says which vectors are which row's."""
    return f"{stream}.offsets.npy"


class _GrowingNpy:
    """A 2-D .npy file that grows batch by batch, so that a shard never has to fit in memory."""

    def __init__(self, path: Path, width: int, dtype: DType) -> None:
        self._file: BinaryIO = path.open("wb")
        self._width, self._dtype = width, np.dtype(dtype).newbyteorder("<")
        self._rows = 0
        self._header_bytes = self._write_header()

    def append(self, acts_MD: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(acts_MD, self._dtype).data)
        self._rows += len(acts_MD)

    def close(self) -> None:
        self._file.seek(0)
        # numpy pads the header so that a longer row count fits into the same bytes
        assert self._write_header() == self._header_bytes
        self._file.close()

    def abandon(self) -> None:
        self._file.close()

    def _write_header(self) -> int:
        header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._rows, self._width),
        }
        np.lib.format.write_array_header_1_0(self._file, header)
        return self._file.tell()


class ShardWriter:
    """Gathers one shard in a temporary folder; `finish` renames it to its place.

    As a context it removes what is there where `finish` was not reached.
    """

    def __init__(self, shards: Path, index: int, widths: Mapping[str, int], dtype: DType) -> None:
        self._place = shards / shard_name(index)
        self._folder = shards / (shard_name(index) + TEMPORARY)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        self._dtype: DType = dtype
        self._acts = {
            name: _GrowingNpy(self._folder / acts_file(name), width, dtype)
            for name, width in widths.items()
        }
        self._counts: dict[str, list[Int64[np.ndarray, "N"]]] = {name: [] for name in widths}
        self._rows: list[Row] = []

    def append(self, rows: Sequence[Row], vectors: Mapping[str, Vectors]) -> None:
        """Add rows and, for every stream, their vectors; StoreError where they do not align."""
        for name, growing in self._acts.items():
            acts_MD, counts_N = vectors[name]
            if len(counts_N) != len(rows) or int(counts_N.sum()) != len(acts_MD):
                raise StoreError(
                    f"Stream `{name}` does not align: {len(acts_MD)} vectors and {len(counts_N)}"
                    f" counts for {len(rows)} rows. Every stream must describe the same rows."
                )
            _check_finite(name, acts_MD, counts_N, rows, self._dtype)
            growing.append(acts_MD)
            self._counts[name].append(counts_N)
        self._rows.extend(rows)

    def finish(
        self, items: int, skipped: Sequence[Skipped], dropped_captions: Sequence[Skipped]
    ) -> ShardRecord:
        """Close the files, write `shard.json`, and let the shard appear."""
        for name, growing in self._acts.items():
            growing.close()
            counts = [np.zeros(1, np.int64), *self._counts[name]]
            buffer = io.BytesIO()  # np.save to a file loses the errno of a full disk
            np.save(buffer, np.concatenate(counts).cumsum())
            (self._folder / offsets_file(name)).write_bytes(buffer.getvalue())
        write_rows(self._folder / ROWS_FILE, self._rows)
        files: dict[str, FileRecord] = {}
        for path in sorted(self._folder.iterdir()):
            fsync_file(path)
            files[path.name] = file_record(path)
        record = ShardRecord(
            items=items,
            rows=len(self._rows),
            skipped=tuple(skipped),
            dropped_captions=tuple(dropped_captions),
            files=files,
        )
        write_atomic(self._folder / SHARD_FILE, dump(record))
        os.rename(self._folder, self._place)
        fsync_folder(self._place.parent)
        return record

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *raised: object) -> None:
        for growing in self._acts.values():
            growing.abandon()
        shutil.rmtree(self._folder, ignore_errors=True)


def file_record(path: Path) -> FileRecord:
    """Hash and size of a file as it lies there."""
    return FileRecord(sha256=sha256_file(path), bytes=path.stat().st_size)


def _check_finite(
    name: str, acts_MD: np.ndarray, counts_N: np.ndarray, rows: Sequence[Row], dtype: DType
) -> None:
    limit = float(np.finfo(dtype).max)
    bad_M = ~(np.abs(acts_MD) <= limit).all(axis=1)
    if not bad_M.any():
        return
    first = rows[int(np.repeat(np.arange(len(rows)), counts_N)[int(bad_M.argmax())])]
    advice = (
        "Use --dtype float32." if np.isfinite(acts_MD).all() else "Check the encoder's weights."
    )
    raise StoreError(
        f"Stream `{name}`: {int(bad_M.sum())} of {len(acts_MD)} vectors hold NaN, infinite or"
        f" values beyond {dtype}, first in row {first.id!r}. {advice}"
    )
