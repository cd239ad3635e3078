"""Files that a kill, a full disk or a flipped bit cannot tear unseen; knows no store format."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from koine.errors import StoreError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_atomic(path: Path, data: bytes) -> None:
    """Put `data` at `path` whole or not at all, and on the disk before returning."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    fsync_folder(path.parent)


def fsync_file(path: Path) -> None:
    """Wait until a file's bytes are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    fsync_file(path)


@contextmanager
def clear_when_full(store: Path, kept: Callable[[], str]) -> Iterator[None]:
    """Turn a full disk into a StoreError that says what is kept; other OSErrors pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise StoreError(
            f"The store {store} cannot grow: {error.strerror}. Kept: {kept()}. Make room and run"
            " the same command again; it goes on from there."
        ) from error
