"""Read N × D matrices from .npy, .npz and .h5 in pieces, larger than memory or not; no pickle."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import h5py
import numpy as np

from koine.errors import SourceError

Reader = Callable[[int], np.ndarray]
"""Gives the next n rows at each call."""

FEATURES = "features"
SKIP_ROWS = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Matrix:
    """A matrix in a file, not read yet."""

    path: Path
    rows: int
    width: int
    dtype: np.dtype
    reader: Callable[[int], AbstractContextManager[Reader]]
    """`with reader(start) as read` reads on from row `start`."""


def open_matrix(file: str) -> Matrix:
    """A matrix from `FILE`, or `FILE#KEY` where the file holds several arrays.

    Raises SourceError unless it is two-dimensional and not empty.
    """
    name, _, key = file.partition("#")
    path = Path(name)
    if not path.is_file():
        raise SourceError(f"There is no file {path}. Check the path given for the stream.")
    openers = {".npy": _open_npy, ".npz": _open_npz, ".h5": _open_h5, ".hdf5": _open_h5}
    if path.suffix.lower() not in openers:
        raise SourceError(f"{path} has an unknown ending; use {', '.join(openers)}.")
    try:
        matrix = openers[path.suffix.lower()](path, key)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise SourceError(
            f"{path} is no readable {path.suffix} file: {error}. Write it again."
        ) from error
    if matrix.rows == 0 or matrix.width == 0:
        raise SourceError(f"{path} is empty: {matrix.rows} rows of width {matrix.width}.")
    return matrix


def _open_npy(path: Path, key: str) -> Matrix:
    if key:
        raise SourceError(f"{path} holds one array and no key {key!r}; leave `#{key}` out.")
    with path.open("rb") as file:
        shape, _, dtype = _header(file, path)
    np.load(path, mmap_mode="r", allow_pickle=False)  # fails where the file is cut short

    @contextmanager
    def reader(start: int) -> Iterator[Reader]:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        yield _slices(lambda begin, end: array[begin:end], start)

    return Matrix(path=path, rows=shape[0], width=shape[1], dtype=dtype, reader=reader)


def _open_npz(path: Path, key: str) -> Matrix:
    with zipfile.ZipFile(path) as archive:
        keys = [name.removesuffix(".npy") for name in archive.namelist()]
        chosen = _choose(path, keys, key)
        with archive.open(f"{chosen}.npy") as file:
            shape, fortran, dtype = _header(file, path)
    if fortran:
        raise SourceError(
            f"{path}: `{chosen}` is stored column by column and cannot be read in pieces. Save it"
            " again with np.ascontiguousarray."
        )

    @contextmanager
    def reader(start: int) -> Iterator[Reader]:
        with zipfile.ZipFile(path) as archive, archive.open(f"{chosen}.npy") as file:
            _header(file, path)

            def read(n: int) -> np.ndarray:
                data = file.read(n * shape[1] * dtype.itemsize)
                return np.frombuffer(data, dtype).reshape(-1, shape[1])

            for at in range(0, start, SKIP_ROWS):
                read(min(SKIP_ROWS, start - at))
            yield read

    return Matrix(path=path, rows=shape[0], width=shape[1], dtype=dtype, reader=reader)


def _open_h5(path: Path, key: str) -> Matrix:
    with h5py.File(path) as file:
        keys: list[str] = []
        file.visititems(lambda name, node: keys.append(name) if _is_array(node) else None)
        chosen = _choose(path, keys, key)
        dataset = file[chosen]
        assert isinstance(dataset, h5py.Dataset)
        shape, dtype = dataset.shape, dataset.dtype
    _check_shape(path, shape, dtype)

    @contextmanager
    def reader(start: int) -> Iterator[Reader]:
        with h5py.File(path) as file:
            dataset = file[chosen]
            assert isinstance(dataset, h5py.Dataset)
            yield _slices(lambda begin, end: dataset[begin:end], start)

    return Matrix(path=path, rows=shape[0], width=shape[1], dtype=dtype, reader=reader)


def _is_array(node: object) -> bool:
    return isinstance(node, h5py.Dataset)


def _slices(read: Callable[[int, int], np.ndarray], start: int) -> Reader:
    at = start

    def following(n: int) -> np.ndarray:
        nonlocal at
        at += n
        return read(at - n, at)

    return following


def _choose(path: Path, keys: list[str], key: str) -> str:
    if key:
        if key not in keys:
            raise SourceError(f"{path} has no array {key!r}; it has {', '.join(keys)}.")
        return key
    if FEATURES in keys:
        return FEATURES
    if len(keys) == 1:
        return keys[0]
    raise SourceError(
        f"{path} holds {len(keys)} arrays ({', '.join(keys[:8])}) and none is called `{FEATURES}`."
        f" Say which: NAME={path}#KEY."
    )


def _header(
    file: IO[bytes] | zipfile.ZipExtFile, path: Path
) -> tuple[tuple[int, int], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, fortran, dtype = read(file)
    _check_shape(path, shape, dtype)
    return (shape[0], shape[1]), fortran, dtype


def _check_shape(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if dtype.hasobject:
        raise SourceError(
            f"{path} holds Python objects, which only pickle could read, and pickle can run code."
            " Save the array as float32."
        )
    if len(shape) != 2:
        raise SourceError(f"{path} must have the shape rows × width, got {shape}.")
