"""A folder with `captions.jsonl`: one line per image; reads no image itself.

    {"image": "images/1.jpg", "captions": ["a dog"], "labels": ["dog"], "split": "train"}

`image` is relative to the folder and is the row's id unless `id` is given. `captions`, `labels`
and `split` may be left out; other keys are not read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from koine.errors import SourceError
from training.sources.duplicates import DuplicateCheck
from training.sources.item import (
    IMAGE_SUFFIXES,
    Item,
    Scan,
    check_any_image,
    check_folder,
    file_loader,
    hash_split,
    known_split,
)
from training.sources.walk import count_files

LISTING = "captions.jsonl"


class _Line(BaseModel):
    # captions and names hardly ever repeat: a cache of them is only memory
    model_config = ConfigDict(frozen=True, strict=True, cache_strings="keys")

    image: str = Field(min_length=1)
    id: str | None = Field(default=None, min_length=1)
    captions: list[str] = []
    labels: list[str] = []
    split: str | None = None


class CaptionsFolder:
    """Source over a folder with `captions.jsonl`."""

    kind = "captions-folder"

    def __init__(self, folder: Path) -> None:
        check_folder(folder)
        self._folder = folder
        self._listing = folder / LISTING
        if not self._listing.is_file():
            images = count_files(folder, IMAGE_SUFFIXES)
            raise SourceError(
                f"{folder} has no {LISTING} (it holds {images:,} images). Write one line per image:"
                ' {"image": "images/1.jpg", "captions": ["a dog"]}, or choose another --source.'
            )

    def scan(self) -> Scan:
        digest, ids = hashlib.sha256(), DuplicateCheck()
        items = captions = 0
        for where, text in self._lines():
            line = _parse(text, where)
            digest.update(text)
            ids.add(line.id or line.image)
            items += 1
            captions += len(line.captions)
        if not items:
            raise SourceError(f"{self._listing} is empty. Write one line per image.")
        ids.check(self._ids)
        check_any_image(
            (
                os.path.join(self._folder, _parse(text, where).image)
                for where, text in self._lines()
            ),
            self._listing,
        )
        return Scan(items, captions, f"sha256:{digest.hexdigest()}")

    def items(self, start: int = 0) -> Iterator[Item]:
        for where, text in islice(self._lines(), start, None):
            line = _parse(text, where)
            id = line.id or line.image
            yield Item(
                id=id,
                image=file_loader(os.path.join(self._folder, line.image)),
                captions=tuple(line.captions),
                labels=tuple(line.labels),
                split=known_split(line.split, where) if line.split else hash_split(id),
            )

    def _lines(self) -> Iterator[tuple[str, bytes]]:
        """Lines that are not blank, each with where it stands."""
        with self._listing.open("rb") as file:
            for number, text in enumerate(file, start=1):
                if text := text.strip():
                    yield f"{self._listing}, line {number}", text

    def _ids(self) -> Iterator[tuple[str, str]]:
        for where, text in self._lines():
            line = _parse(text, where)
            yield line.id or line.image, where


def _parse(text: bytes, where: str) -> _Line:
    try:
        line = _Line.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(str(part) for part in first["loc"])
        shown = text[:80].decode(errors="replace")
        raise SourceError(
            f"{where}: {f'`{at}`: ' if at else ''}{first['msg']}. Got: {shown}. Expected"
            ' {"image": "images/1.jpg", "captions": ["…"], "labels": ["…"], "split": "train"}.'
        ) from None
    if line.split is not None:
        known_split(line.split, where)
    return line
