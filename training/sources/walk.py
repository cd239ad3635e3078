"""Look into folders of any number of files without listing them in memory; reads no file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing."""
    with os.scandir(folder) as entries:
        return next(entries, None) is None


def holds(folder: Path, suffix: str) -> bool:
    """Whether a file that ends so lies directly in a folder, which need not exist."""
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return any(entry.name.endswith(suffix) for entry in entries)


def files_under(folder: Path, *suffixes: str) -> list[Path]:
    """Files under a folder that end so, sorted: for listings and tars, of which there are few."""
    return sorted(path for path in _walk(folder) if path.name.lower().endswith(suffixes))


def count_files(folder: Path, suffixes: frozenset[str]) -> int:
    """Number of files under a folder whose suffix is one of these."""
    return sum(path.suffix.lower() in suffixes for path in _walk(folder))


def _walk(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path))
            else:
                yield Path(entry.path)
