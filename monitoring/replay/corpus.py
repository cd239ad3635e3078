"""Items of a folder of images with captions and labels; sends nothing.

    FOLDER/captions.jsonl    {"image": "images/1.jpg", "captions": […], "labels": […], "split": …}

Of a line only `image` must be there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from koine.errors import SourceError


class Item(NamedTuple):
    """What is sent as one item."""

    image: bytes
    caption: str | None
    labels: frozenset[str]


class Corpus:
    """The items of one folder, images read when they are asked for."""

    def __init__(self, folder: Path, split: str | None = None) -> None:
        """Raises `SourceError` where there is nothing to send."""
        listed = folder / "captions.jsonl"
        if not listed.is_file():
            raise SourceError(
                f"{listed} is missing: write one line of JSON for each image, such as "
                '{"image": "1.jpg", "captions": ["a dog"], "labels": ["dog"]}'
            )
        lines = [line for line in listed.read_text().splitlines() if line.strip()]
        rows = [_row(listed, at, line) for at, line in enumerate(lines, start=1)]
        self._rows = [row for row in rows if split is None or row.get("split") == split]
        if not self._rows:
            raise SourceError(f"{listed} has no image" + (f" of split {split!r}" if split else ""))
        self._folder = folder

    def __len__(self) -> int:
        return len(self._rows)

    def item(self, at: int, rng: np.random.Generator) -> Item:
        """An item with any of its captions, as profiles take them. Raises `SourceError`."""
        row = self._rows[at]
        path = self._folder / row["image"]
        try:
            image = path.read_bytes()
        except OSError as error:
            raise SourceError(f"{path} cannot be read: {error.strerror}") from error
        captions: Sequence[str] = row.get("captions") or ()
        caption = captions[int(rng.integers(len(captions)))] if captions else None
        return Item(image, caption, self.labels(at))

    def labels(self, at: int) -> frozenset[str]:
        """What stands behind the item's labels."""
        return frozenset(self._rows[at].get("labels") or ())

    def words(self, at: int) -> frozenset[str]:
        """The words of all its captions."""
        return frozenset(" ".join(self._rows[at].get("captions") or ()).lower().split())


def _row(listed: Path, at: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict) or "image" not in row:
        raise SourceError(f"{listed}, line {at}: no object with `image`, got {line[:80]!r}")
    return cast(dict[str, Any], row)
