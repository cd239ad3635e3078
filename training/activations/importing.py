"""Turn matrices that other tools made into a store; knows no command line and no encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import ValidationError

from koine.artifact import sha256_file
from koine.errors import SourceError
from koine.streams import StreamSpec
from training.activations.builder import Made, StoreBuilder, open_builder
from training.activations.manifest import (
    DType,
    ShardRecord,
    SourceIdentity,
    StorePlan,
    read_manifest,
)
from training.activations.matrices import Matrix, Reader
from training.activations.rows import Row
from training.activations.shards import Vectors
from training.progress import Bar, progress
from training.sources.item import hash_split

CHUNK_ROWS = 1024
LABELS = "--labels"


class Fractions(NamedTuple):
    """Parts of the rows that go to train and val; the rest is test."""

    train: float
    val: float


class Given(NamedTuple):
    """What an import is made of."""

    streams: Mapping[str, Matrix]
    labels: Matrix | None
    """N × labels, 0 or 1."""
    label_names: Sequence[str]
    ids: Sequence[str] | None
    """None: the row's number."""
    fractions: Fractions


def check(given: Given) -> int:
    """The number of rows N; SourceError where streams, labels or ids differ in it."""
    counts = {f"stream `{name}`": matrix.rows for name, matrix in given.streams.items()}
    if given.labels:
        counts["--labels"] = given.labels.rows
    if given.ids is not None:
        counts["--ids"] = len(given.ids)
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{what} {rows:,}" for what, rows in counts.items())
        raise SourceError(
            f"The rows do not align: {listed}. Row i of every file must describe the same item; cut"
            " or join the files so that they have the same number of rows."
        )
    if given.ids is not None and len(set(given.ids)) < len(given.ids):
        seen: set[str] = set()
        twice = next(id for id in given.ids if id in seen or seen.add(id))
        raise SourceError(f"--ids: {twice!r} occurs twice. Ids must be unique.")
    if given.labels and given.labels.width != len(given.label_names):
        raise SourceError(
            f"--labels has {given.labels.width} columns, but {len(given.label_names)} label names"
            " were given. Give one name a line for each column."
        )
    return next(iter(counts.values()))


def make_plan(given: Given, *, dtype: DType, shard_size: int) -> StorePlan:
    """The plan of an import, with the hashes of its files."""
    files = [*given.streams.values(), *([given.labels] if given.labels else [])]
    digest = hashlib.sha256(repr((given.fractions, given.label_names, given.ids)).encode())
    for matrix in files:
        digest.update(sha256_file(matrix.path).encode())
    try:
        streams = tuple(
            StreamSpec(name=name, modality="vector", d_in=matrix.width)
            for name, matrix in given.streams.items()
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise SourceError(f"--stream: {first['msg']}, got {first['input']!r}.") from None
    return StorePlan(
        recipe=None,
        source=SourceIdentity(kind="import", fingerprint=f"sha256:{digest.hexdigest()}"),
        streams=streams,
        dtype=dtype,
        shard_size=shard_size,
        batch_size=CHUNK_ROWS,
    )


def import_store(plan: StorePlan, given: Given, out: Path) -> Made:
    """Fill the store at `out`, going on where an earlier run with the same plan stopped.

    Raises SourceError where a stream holds NaN or infinite values, or labels other than 0 and 1.
    """
    total = check(given)
    with open_builder(out, plan) as builder:
        if builder.finished:
            return Made(read_manifest(out), already=True)
        with progress(total * (len(given.streams) + bool(given.labels)), "check") as bar:
            for name, matrix in given.streams.items():
                check_finite(name, matrix, bar)
            if given.labels:
                _check_binary(given.labels, bar)
        with progress(total, "import", builder.rows) as bar:
            _write(builder, given, total, bar)
        return Made(builder.finish(given.label_names), already=False)


def check_finite(name: str, matrix: Matrix, bar: Bar) -> None:
    """SourceError with the first bad row and their number, where values cannot be float32."""
    bad, first = _bad_rows(matrix, _not_finite, bar)
    if bad:
        raise SourceError(
            f"Stream `{name}` ({matrix.path}): {bad:,} of {matrix.rows:,} rows hold NaN or infinite"
            f" values, first row {first} (counted from 0). Remove these rows from every file."
        )


def _check_binary(matrix: Matrix, bar: Bar) -> None:
    bad, first = _bad_rows(matrix, _not_binary, bar)
    if bad:
        raise SourceError(
            f"--labels ({matrix.path}): {bad:,} rows hold values other than 0 and 1, first row"
            f" {first} (counted from 0). Give one column a label, 1 where the row has it."
        )


def _not_finite(chunk: np.ndarray) -> np.ndarray:
    return np.asarray(~np.isfinite(_float32(chunk)).all(axis=1))


def _not_binary(chunk: np.ndarray) -> np.ndarray:
    return ((chunk != 0) & (chunk != 1)).any(axis=1)


def _bad_rows(
    matrix: Matrix, is_bad: Callable[[np.ndarray], np.ndarray], bar: Bar
) -> tuple[int, int]:
    """Number of bad rows, and the first of them."""
    bad, first = 0, -1
    with matrix.reader(0) as read:
        for start in range(0, matrix.rows, CHUNK_ROWS):
            chunk = _read(matrix, read, min(CHUNK_ROWS, matrix.rows - start))
            bad_N = is_bad(chunk)
            if first < 0 and bad_N.any():
                first = start + int(bad_N.argmax())
            bad += int(bad_N.sum())
            bar.advance(len(chunk))
    return bad, first


def _write(builder: StoreBuilder, given: Given, total: int, bar: Bar) -> None:
    with ExitStack() as stack:
        matrices = {**given.streams, **({LABELS: given.labels} if given.labels else {})}
        readers = {
            name: stack.enter_context(matrix.reader(builder.rows))
            for name, matrix in matrices.items()
        }

        def following(name: str, n: int) -> np.ndarray:
            return _read(matrices[name], readers[name], n)

        while builder.rows < total:
            size = min(builder.plan.shard_size, total - builder.rows)
            builder.shards.append(_write_shard(builder, given, following, size, bar))


def _write_shard(
    builder: StoreBuilder,
    given: Given,
    following: Callable[[str, int], np.ndarray],
    size: int,
    bar: Bar,
) -> ShardRecord:
    start = builder.rows
    with builder.new_shard() as writer:
        for at in range(start, start + size, CHUNK_ROWS):
            n = min(CHUNK_ROWS, start + size - at)
            vectors = {
                name: Vectors(_float32(following(name, n)), np.ones(n, np.int64))
                for name in given.streams
            }
            labels_NL = following(LABELS, n) if given.labels else np.zeros((n, 0))
            writer.append(_rows(given, at, labels_NL), vectors)
            bar.advance(n)
        return writer.finish(size, [], [])


def _read(matrix: Matrix, read: Reader, n: int) -> np.ndarray:
    try:
        chunk = read(n)
    except (OSError, ValueError, EOFError) as error:
        raise SourceError(f"{matrix.path} cannot be read: {error}. Write it again.") from error
    if len(chunk) != n:
        raise SourceError(
            f"{matrix.path} ends early: its header promises {matrix.rows:,} rows. Write it again."
        )
    return chunk


def _rows(given: Given, start: int, labels_NL: np.ndarray) -> list[Row]:
    rows: list[Row] = []
    for number, labels_L in enumerate(labels_NL, start):
        id = given.ids[number] if given.ids is not None else str(number)
        labels = tuple(given.label_names[column] for column in np.flatnonzero(labels_L).tolist())
        rows.append(Row(id, (), labels, hash_split(id, *given.fractions)))
    return rows


def _float32(chunk: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # what does not fit turns infinite, and is reported
        return chunk.astype(np.float32)
