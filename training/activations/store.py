"""Read an activation store by memory map: rows at random, memory bounded; writes nothing."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Float64, Int64

from koine.errors import StoreError
from koine.streams import StreamSpec
from koine.types import ActsND, PresentNS
from training.activations.index import RowIndex, Spans, read_index
from training.activations.manifest import STORE_FILE, StoreManifest, read_manifest
from training.activations.rows import ROWS_FILE, SPLITS, Row, Split, codes_of, read_rows, row_at
from training.activations.shards import acts_file
from training.activations.verify import verify_files

OPEN_MAPS = 256
"""Memory maps held open: each takes a file descriptor, and 1,024 is a common limit."""

OPEN_TABLES = 4
"""Shards whose rows (captions, labels) are held in memory."""


class Batch(NamedTuple):
    """Activations of N rows, one vector per stream and row."""

    acts: dict[str, ActsND]
    """By stream; zeros where the row lacks it."""
    present_NS: PresentNS
    """Which rows have which stream, columns in the order of `ActivationStore.streams`."""


class ActivationStore:
    """A finished store. Rows are numbered in the source's order."""

    def __init__(self, path: Path, manifest: StoreManifest, index: RowIndex) -> None:
        self.path = path
        self.manifest = manifest
        self.streams: tuple[StreamSpec, ...] = manifest.plan.streams
        self.label_names: tuple[str, ...] = manifest.label_names
        self.fingerprint: str = hashlib.sha256((path / STORE_FILE).read_bytes()).hexdigest()
        """SHA-256 of `store.json`, which holds the hashes of all other files."""
        self._index = index
        self._open_map = lru_cache(maxsize=OPEN_MAPS)(self._map_uncached)
        self._table = lru_cache(maxsize=OPEN_TABLES)(self._table_uncached)
        self._labels_csr: tuple[np.ndarray, np.ndarray] | None = None

    @classmethod
    def open(
        cls, path: Path | str, *, verify: bool = True, share: tuple[int, int] = (0, 1)
    ) -> ActivationStore:
        """Open a finished store; `verify` also hashes every file against the manifest.

        Processes that open it together may each hash their share (number, processes). Raises
        StoreError when it is unfinished, of an unknown version, damaged or misaligned.
        """
        path = Path(path)
        manifest = read_manifest(path)
        verify_files(path, manifest, hashes=verify, share=share)
        return cls(path, manifest, read_index(path, manifest))

    def __len__(self) -> int:
        return self.manifest.num_rows

    def only(self, stream: str) -> ActivationStore:
        """The same store as if it held one stream; rows that lack it belong to no split."""
        view = copy.copy(self)
        view.streams = tuple(spec for spec in self.streams if spec.name == self._known(stream))
        split_N = np.where(self.counts(stream) > 0, self._index.split_N, len(SPLITS))
        view._index = self._index._replace(split_N=split_N.astype(np.uint8))
        return view

    def showing(self, specs: Sequence[StreamSpec]) -> ActivationStore:
        """The same store as if it held these streams, in this order; all rows lack new ones."""
        view = copy.copy(self)
        view.streams = tuple(specs)
        known = {spec.name for spec in self.streams}
        nothing_N = np.zeros(len(self), np.int32)
        lacking = {s.name: Spans(nothing_N, nothing_N) for s in specs if s.name not in known}
        view._index = self._index._replace(spans={**self._index.spans, **lacking})
        return view

    def split(self, name: Split) -> Int64[np.ndarray, "M"]:
        """Numbers of the rows of a split, ascending."""
        return np.flatnonzero(self._index.split_N == SPLITS.index(name)).astype(np.int64)

    def counts(self, stream: str) -> Int64[np.ndarray, "M"]:
        """Vectors per row: 0 where the row lacks the stream, several where it has captions."""
        return self._index.counts(self._known(stream), np.arange(len(self)))

    def gather(
        self, rows_N: Int64[np.ndarray, "N"], draws_N: Float64[np.ndarray, "N"] | None = None
    ) -> Batch:
        """One vector per row and stream, in the order of `rows_N`.

        `draws_N` in [0, 1) choose among a row's m vectors number floor(draw * m), the same draw
        for every stream; without them it is the first.
        """
        self._check_rows(rows_N)
        shard_N = self._index.shards_of(rows_N)
        order_N = np.argsort(rows_N, kind="stable")  # as they lie in the files
        present_NS = np.empty((len(rows_N), len(self.streams)), bool)
        acts: dict[str, ActsND] = {}
        for column, stream in enumerate(self.streams):
            counts_N = self._index.counts(stream.name, rows_N)
            local_N = self._index.first(stream.name, rows_N)
            if draws_N is not None:
                picks_N = (draws_N * counts_N).astype(np.int64)
                local_N += np.minimum(picks_N, np.maximum(counts_N - 1, 0))
            present_NS[:, column] = counts_N > 0
            wanted_M = order_N[present_NS[order_N, column]]
            acts[stream.name] = self._read(stream, wanted_M, shard_N, local_N)
        return Batch(acts, present_NS)

    def present(self, rows_N: Int64[np.ndarray, "N"]) -> PresentNS:
        """Which rows have which stream, as `gather` would say it, without reading activations."""
        self._check_rows(rows_N)
        columns = [self._index.counts(stream.name, rows_N) > 0 for stream in self.streams]
        return np.stack(columns, axis=1)

    def vectors(self, stream: str, rows_N: Int64[np.ndarray, "N"]) -> Float[np.ndarray, "M D"]:
        """All vectors of a stream for ascending rows, row after row, in the type of the store."""
        self._check_rows(rows_N)
        counts_N = self._index.counts(self._known(stream), rows_N)
        row_M = np.repeat(np.arange(len(rows_N)), counts_N)
        within_M = np.arange(len(row_M)) - (counts_N.cumsum() - counts_N)[row_M]
        local_M = self._index.first(stream, rows_N)[row_M] + within_M
        shards_M = self._index.shards_of(rows_N)[row_M]
        parts = [self._map(shard, stream)[local_M[group]] for shard, group in _by_shard(shards_M)]
        width = next(spec.d_in for spec in self.streams if spec.name == stream)
        return np.concatenate([np.zeros((0, width), self.manifest.plan.dtype), *parts])

    def labels(self, rows_N: Int64[np.ndarray, "N"]) -> Bool[np.ndarray, "N L"]:
        """Which rows have which label, columns in the order of `label_names`."""
        self._check_rows(rows_N)
        if self._labels_csr is None:
            self._labels_csr = self._read_labels()
        starts, columns = self._labels_csr
        lengths_N = starts[rows_N + 1] - starts[rows_N]
        row_M = np.repeat(np.arange(len(rows_N)), lengths_N)
        within_M = np.arange(int(lengths_N.sum())) - np.repeat(
            lengths_N.cumsum() - lengths_N, lengths_N
        )
        labels_NL = np.zeros((len(rows_N), len(self.label_names)), bool)
        labels_NL[row_M, columns[np.repeat(starts[rows_N], lengths_N) + within_M]] = True
        return labels_NL

    def row(self, row: int) -> Row:
        """Id, captions, labels and split of a row."""
        self._check_rows(np.array([row], np.int64))
        shard = int(np.searchsorted(self._index.shard_starts, row, side="right")) - 1
        return row_at(self._table(shard), row - int(self._index.shard_starts[shard]))

    def _read(
        self, stream: StreamSpec, wanted_M: np.ndarray, shard_N: np.ndarray, local_N: np.ndarray
    ) -> ActsND:
        """Vectors of the rows `wanted_M` (grouped by shard), zeros elsewhere."""
        acts_ND = np.zeros((len(shard_N), stream.d_in), np.float32)
        for shard, group in _by_shard(shard_N[wanted_M]):
            into_M = wanted_M[group]
            acts_ND[into_M] = self._map(shard, stream.name)[local_N[into_M]]
        return acts_ND

    def _read_labels(self) -> tuple[np.ndarray, np.ndarray]:
        """CSR of all rows' labels: starts [N+1] and columns."""
        lengths: list[np.ndarray] = [np.zeros(1, np.int64)]
        columns: list[np.ndarray] = []
        for shard in self.manifest.shards:
            table = read_rows(self.path / "shards" / shard.name / ROWS_FILE, ["labels"])
            labels = table["labels"].combine_chunks()
            lengths.append(labels.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64))
            found = codes_of(labels.flatten(), self.label_names)
            if found.null_count:
                raise StoreError(
                    f"Shard {shard.name} of {self.path} has labels that {STORE_FILE} does not list."
                    " The store was put together from different ones; extract it again."
                )
            columns.append(found.to_numpy(zero_copy_only=False).astype(np.int32))
        return np.concatenate(lengths).cumsum(), np.concatenate(columns)

    def _map(self, shard: int, stream: str) -> Float[np.ndarray, "M D"]:
        """A shard's vectors; StoreError where the file is gone or cut short since it was opened.

        Reading a map beyond the end of its file kills the process, so sizes are looked at again.
        """
        record = self.manifest.shards[shard]
        path = self.path / "shards" / record.name / acts_file(stream)
        try:
            size = path.stat().st_size
        except OSError as error:
            raise StoreError(
                f"{path} cannot be read any more: {error.strerror}. Restore the file and run the"
                " same command again."
            ) from error
        if size != (expected := record.files[path.name].bytes):
            raise StoreError(
                f"{path} was changed while it was in use: expected {expected:,} bytes, got"
                f" {size:,}. Restore the file and run the same command again."
            )
        return self._open_map(shard, stream)

    def _map_uncached(self, shard: int, stream: str) -> Float[np.ndarray, "M D"]:
        path = self.path / "shards" / self.manifest.shards[shard].name / acts_file(stream)
        # a plain view: indexing np.memmap itself costs several times as much
        return np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)

    def _table_uncached(self, shard: int) -> pa.Table:
        return read_rows(self.path / "shards" / self.manifest.shards[shard].name / ROWS_FILE)

    def _known(self, stream: str) -> str:
        names = [spec.name for spec in self.streams]
        if stream not in names:
            raise StoreError(f"The store has no stream {stream!r}; it has {', '.join(names)}.")
        return stream

    def _check_rows(self, rows_N: Int64[np.ndarray, "N"]) -> None:
        if len(rows_N) and not (rows_N.min() >= 0 and rows_N.max() < len(self)):
            raise StoreError(
                f"Rows must lie in 0..{len(self) - 1}, got {rows_N.min()}..{rows_N.max()}."
            )


def _by_shard(shards_M: Int64[np.ndarray, "M"]) -> Iterator[tuple[int, slice]]:
    """Each shard of a grouped list, with the part of the list that is its own."""
    edges = [0, *(np.flatnonzero(np.diff(shards_M)) + 1).tolist(), len(shards_M)]
    for start, end in pairwise(edges):
        if start < end:
            yield int(shards_M[start]), slice(start, end)
