"""Join images with captions and labels on disk, for listings that come apart; reads no format.

A temporary SQLite file holds the join, so that millions of rows need no memory.
"""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from koine.errors import SourceError
from training.activations.rows import Split
from training.sources.item import Item, file_loader

_TABLES = """
CREATE TABLE images (number INTEGER PRIMARY KEY, key TEXT, id TEXT, path TEXT, split TEXT);
CREATE TABLE captions (key TEXT, caption TEXT);
CREATE TABLE labels (key TEXT, label TEXT);
"""
_INDICES = """
CREATE INDEX image_key ON images (key);
CREATE INDEX caption_key ON captions (key);
CREATE INDEX label_key ON labels (key);
"""


class ListedImage(NamedTuple):
    """An image as its listing names it."""

    key: str
    """What captions and labels call it."""
    id: str
    path: str
    split: Split


class Listing:
    """Images in the order they were added, with their captions and labels."""

    def __init__(self) -> None:
        # an empty name: SQLite's own temporary file, which not even a kill leaves behind
        self._database = sqlite3.connect("")
        self._database.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;" + _TABLES)
        weakref.finalize(self, self._database.close)

    def add_images(self, images: Iterable[ListedImage]) -> None:
        """Append images."""
        self._database.executemany(
            "INSERT INTO images (key, id, path, split) VALUES (?, ?, ?, ?)", images
        )

    def add_captions(self, captions: Iterable[tuple[str, str]]) -> None:
        """Append (key, caption)."""
        self._database.executemany("INSERT INTO captions VALUES (?, ?)", captions)

    def add_labels(self, labels: Iterable[tuple[str, str]]) -> None:
        """Append (key, label)."""
        self._database.executemany("INSERT INTO labels VALUES (?, ?)", labels)

    def close_listing(self, where: Path) -> None:
        """Call when all is added; SourceError where an image is listed twice."""
        self._database.executescript(_INDICES)
        twice = self._database.execute(
            "SELECT id, COUNT(*) FROM images GROUP BY key HAVING COUNT(*) > 1 LIMIT 1"
        ).fetchone()
        if twice:
            raise SourceError(
                f"{where}: the image {twice[0]!r} is listed {twice[1]} times. Ids must be unique;"
                " remove the doubles."
            )

    def num_images(self) -> int:
        """Images listed."""
        return self._database.execute("SELECT COUNT(*) FROM images").fetchone()[0]

    def num_captions(self) -> int:
        """Captions of listed images."""
        return self._database.execute(
            "SELECT COUNT(*) FROM captions WHERE key IN (SELECT key FROM images)"
        ).fetchone()[0]

    def orphan_captions(self) -> tuple[int, str]:
        """Number of captions whose image is not listed, and the key of one."""
        return self._database.execute(
            "SELECT COUNT(*), COALESCE(MIN(key), '') FROM captions"
            " WHERE key NOT IN (SELECT key FROM images)"
        ).fetchone()

    def paths(self) -> Iterator[str]:
        """Where the images should lie."""
        for (path,) in self._database.execute("SELECT path FROM images ORDER BY number"):
            yield path

    def items(self, start: int = 0) -> Iterator[Item]:
        """Items from number `start` on."""
        rows = self._database.execute(
            "SELECT key, id, path, split FROM images WHERE number > ? ORDER BY number", (start,)
        )
        for key, id, path, split in rows:
            captions = self._database.execute(
                "SELECT caption FROM captions WHERE key = ? ORDER BY rowid", (key,)
            )
            labels = self._database.execute(
                "SELECT DISTINCT label FROM labels WHERE key = ? ORDER BY label", (key,)
            )
            yield Item(
                id=id,
                image=file_loader(path),
                captions=tuple(caption for (caption,) in captions),
                labels=tuple(label for (label,) in labels),
                split=split,
            )
