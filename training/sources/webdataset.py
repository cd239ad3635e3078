"""WebDataset tars: `<key>.jpg` beside `<key>.txt` or `<key>.json`; images are read by offset.

A text file holds one caption a line; a JSON file may hold `caption` or `captions`, `labels` and
`split`. The text file's captions win. A row's id is `<tar>/<key>`. Without a `split` of its own
a row takes it from its tar's folder or name (`train/…`, `val-0001.tar`), else its id decides.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from koine.errors import ImageError, SourceError
from training.activations.rows import Split
from training.sources.duplicates import DuplicateCheck
from training.sources.item import IMAGE_SUFFIXES, Item, Scan, check_folder, hash_split, known_split
from training.sources.walk import files_under

MAX_TEXT_BYTES = 1 << 20
_SPLIT_WORDS: dict[str, Split] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


class _Member(NamedTuple):
    offset: int
    size: int


class _Sample(NamedTuple):
    tar: Path
    key: str
    members: dict[str, _Member]
    """By suffix: `.jpg`, `.txt`, `.json`."""


class WebDataset:
    """Source over the `.tar` files under a folder, in the order of their names."""

    kind = "webdataset"

    def __init__(self, folder: Path) -> None:
        check_folder(folder)
        self._folder = folder
        self._tars = files_under(folder, ".tar")
        if not self._tars:
            packed = files_under(folder, ".tar.gz", ".tgz")
            advice = (
                f"Unpack {packed[0].name} to a plain .tar: a packed one cannot be read at random."
                if packed
                else "Put the .tar files there, or choose another --source."
            )
            raise SourceError(f"{folder} has no .tar file. {advice}")
        self._items_per_tar: list[int] | None = None

    def scan(self) -> Scan:
        digest = hashlib.sha256()
        captions = images = 0
        per_tar: list[int] = []
        for tar in self._tars:
            ids, here = DuplicateCheck(), 0
            for sample in _samples(tar):
                item = self._item(sample)
                ids.add(item.id)
                digest.update(
                    repr((item.id, item.captions, item.labels, item.split, _sizes(sample))).encode()
                )
                here += 1
                captions += len(item.captions)
                images += _image_member(sample) is not None
            ids.check(lambda tar=tar: ((self._id(s), f"in {tar}") for s in _samples(tar)))
            per_tar.append(here)
        if not images:
            raise SourceError(
                f"The tars under {self._folder} have captions without images: {sum(per_tar)}"
                " samples, none with a .jpg, .png or .webp. Add the images under the same keys."
            )
        self._items_per_tar = per_tar
        return Scan(sum(per_tar), captions, f"sha256:{digest.hexdigest()}")

    def items(self, start: int = 0) -> Iterator[Item]:
        for index, tar in enumerate(self._tars):
            known = self._items_per_tar[index] if self._items_per_tar else None
            if known is not None and start >= known:
                start -= known
                continue
            for sample in _samples(tar):
                if start:
                    start -= 1
                    continue
                yield self._item(sample)

    def _id(self, sample: _Sample) -> str:
        return f"{sample.tar.relative_to(self._folder).with_suffix('').as_posix()}/{sample.key}"

    def _item(self, sample: _Sample) -> Item:
        id, where = self._id(sample), f"{sample.tar}, key {sample.key!r}"
        notes = _notes(sample, where)
        text = sample.members.get(".txt")
        captions = _text(sample.tar, text, where).splitlines() if text else _captions(notes, where)
        split = notes.get("split")
        return Item(
            id=id,
            image=_loader(sample),
            captions=tuple(captions),
            labels=tuple(_strings(notes.get("labels", []), "labels", where)),
            split=known_split(split, where) if split is not None else self._split(sample.tar, id),
        )

    def _split(self, tar: Path, id: str) -> Split:
        *folders, stem = tar.relative_to(self._folder).with_suffix("").parts
        for word in [*reversed(folders), re.split(r"[^a-z]", stem.lower())[0]]:
            if word.lower() in _SPLIT_WORDS:
                return _SPLIT_WORDS[word.lower()]
        return hash_split(id)


def _samples(tar: Path) -> Iterator[_Sample]:
    """Samples of a tar: members that follow each other and share a key; reads headers only."""
    key, members = "", dict[str, _Member]()
    try:
        with tarfile.open(tar, "r:") as archive:
            while (info := archive.next()) is not None:
                archive.members = []  # pyright: ignore  # it keeps every header otherwise
                if not info.isfile():
                    continue
                folder, _, name = info.name.rpartition("/")
                stem, _, suffix = name.partition(".")
                this = f"{folder}/{stem}" if folder else stem
                if this != key and members:
                    yield _Sample(tar, key, members)
                    members = {}
                key = this
                members[f".{suffix.lower()}"] = _Member(info.offset_data, info.size)
    except tarfile.TarError as error:
        raise SourceError(
            f"{tar} is no readable tar: {error}. It may be cut short or packed; copy it again, or"
            " move it out of the folder."
        ) from None
    if members:
        yield _Sample(tar, key, members)


def _image_member(sample: _Sample) -> _Member | None:
    return next((m for suffix, m in sample.members.items() if suffix in IMAGE_SUFFIXES), None)


def _sizes(sample: _Sample) -> list[int]:
    return [member.size for member in sample.members.values()]


def _loader(sample: _Sample) -> Callable[[], bytes]:
    member = _image_member(sample)

    def load() -> bytes:
        if member is None:
            kinds = ", ".join(sample.members)
            raise ImageError(f"the sample has no image, only {kinds}")
        return _read(sample.tar, member)

    return load


def _read(tar: Path, member: _Member) -> bytes:
    with tar.open("rb") as file:
        file.seek(member.offset)
        return file.read(member.size)


def _text(tar: Path, member: _Member, where: str) -> str:
    if member.size > MAX_TEXT_BYTES:
        raise SourceError(
            f"{where}: its text has {member.size:,} bytes, more than {MAX_TEXT_BYTES:,}. Is it a"
            " caption? Cut it, or remove the sample."
        )
    try:
        return _read(tar, member).decode()
    except UnicodeDecodeError as error:
        raise SourceError(f"{where}: its text is not UTF-8: {error}. Convert it.") from None


def _notes(sample: _Sample, where: str) -> dict[str, object]:
    member = sample.members.get(".json")
    if member is None:
        return {}
    try:
        notes = json.loads(_text(sample.tar, member, where))
    except json.JSONDecodeError as error:
        raise SourceError(f"{where}: its JSON cannot be read: {error}. Correct it.") from None
    if not isinstance(notes, dict):
        raise SourceError(
            f'{where}: its JSON must be an object such as {{"caption": "a dog"}}, got'
            f" {type(notes).__name__}."
        )
    return notes


def _captions(notes: dict[str, object], where: str) -> list[str]:
    single = notes.get("caption")
    return _strings(notes.get("captions", [] if single is None else [single]), "captions", where)


def _strings(values: object, name: str, where: str) -> list[str]:
    if isinstance(values, list) and all(isinstance(value, str) for value in values):
        return values
    raise SourceError(f"{where}: `{name}` must be a list of texts, got {str(values)[:80]}.")
