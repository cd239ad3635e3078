"""What a source yields, and the rules that all sources share; reads no format."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, cast, runtime_checkable

from koine.errors import ImageError, SourceError
from training.activations.rows import SPLITS, Split
from training.sources.walk import is_empty

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})


@dataclass(frozen=True, slots=True)
class Item:
    """One image with what is known of it; its bytes are read only when asked for."""

    id: str
    image: Callable[[], bytes]
    """Reads the encoded image; ImageError or OSError where it is not there."""
    captions: tuple[str, ...]
    labels: tuple[str, ...]
    split: Split


class Scan(NamedTuple):
    """What a look through a whole source says, without reading an image."""

    items: int
    captions: int
    fingerprint: str
    """`sha256:` of the listing: equal where items, captions, labels and splits are."""


@runtime_checkable
class Source(Protocol):
    """Items in an order that never changes, whatever their number in bounded memory."""

    kind: str

    def scan(self) -> Scan:
        """Look through the listing; SourceError where something in it does not fit together."""
        ...

    def items(self, start: int = 0) -> Iterator[Item]:
        """Items from number `start` on; skipping reads no image."""
        ...


def hash_split(id: str, train: float = 0.8, val: float = 0.1) -> Split:
    """The split of an item that names none: decided by its id alone, so it never changes."""
    draw = int.from_bytes(hashlib.sha256(id.encode()).digest()[:8], "big") / 2**64
    if draw < train:
        return "train"
    return "val" if draw < train + val else "test"


def known_split(split: object, where: str) -> Split:
    """A split as written, or SourceError that says where it stands."""
    if split not in SPLITS:
        raise SourceError(
            f"{where}: unknown split {split!r}. Use one of {', '.join(SPLITS)}, or leave it out:"
            " the row's id then decides."
        )
    return cast(Split, split)


def file_loader(path: str) -> Callable[[], bytes]:
    """A loader of an image that lies in a file of its own."""

    def load() -> bytes:
        try:
            with open(path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            folder, name = os.path.split(path)
            raise ImageError(f"the image file {name} is missing in {folder}") from None

    return load


def check_folder(path: Path) -> None:
    """SourceError unless `path` is a folder with something in it."""
    if not path.is_dir():
        raise SourceError(f"--data {path} is no folder. Give the folder that holds the data.")
    if is_empty(path):
        raise SourceError(f"The folder {path} is empty. Put the images and their captions there.")


def check_any_image(paths: Iterable[str], listing: Path) -> None:
    """SourceError when none of the images of a listing is there; single ones may be missing."""
    first = None
    for path in paths:
        first = first or path
        if os.path.isfile(path):
            return
    raise SourceError(
        f"{listing} has captions without images: none of the image files it names is there, for"
        f" example {first}. Put the images there, or correct the names."
    )
