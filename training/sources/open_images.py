"""Open Images: CSV files of image ids, class labels and class names; captions as JSON lines.

Every `.csv` and `.jsonl` under the folder is read for what its first line says it is:

    ImageID[,Subset,…]                  images: one row each, in this order
    ImageID,Source,LabelName,Confidence[,…]   labels, those with a confidence above 0.5
    LabelName,DisplayName  (or no header)     names of the classes
    {"image_id": …, "caption": …}       captions (Localized Narratives)

Images lie in `<subset>/<id>.jpg`, `<subset>/data/`, `images/<subset>/` or `images/`.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from koine.artifact import sha256_file
from koine.errors import SourceError
from training.activations.rows import Split
from training.sources.item import Item, Scan, check_any_image, check_folder, hash_split
from training.sources.listing import ListedImage, Listing
from training.sources.walk import files_under, holds

_SUBSETS: dict[str, Split] = {"train": "train", "validation": "val", "val": "val", "test": "test"}
_CLASS_PREFIXES = ("/m/", "/g/", "/t/")
POSITIVE = 0.5


class OpenImages:
    """Source over Open Images' CSV files."""

    kind = "open-images"

    def __init__(self, folder: Path) -> None:
        check_folder(folder)
        self._folder = folder
        self._images: list[Path] = []
        self._labels: list[Path] = []
        self._names: list[Path] = []
        for file in files_under(folder, ".csv"):
            self._place(file)
        self._captions = files_under(folder, ".jsonl")
        if not self._images:
            raise SourceError(
                f"{folder} has no CSV of image ids (a header with `ImageID` and without"
                " `LabelName`). Put Open Images' image list there, or choose another --source."
            )
        self._listing: Listing | None = None

    def scan(self) -> Scan:
        listing, digest = self._read(), hashlib.sha256()
        for file in [*self._images, *self._labels, *self._names, *self._captions]:
            digest.update(f"{file.relative_to(self._folder)} {sha256_file(file)}\n".encode())
        return Scan(listing.num_images(), listing.num_captions(), f"sha256:{digest.hexdigest()}")

    def items(self, start: int = 0) -> Iterator[Item]:
        return self._read().items(start)

    def _place(self, file: Path) -> None:
        with file.open(encoding="utf-8", errors="replace", newline="") as text:
            header = next(csv.reader(text), [])
        if "ImageID" in header and "LabelName" in header:
            self._labels.append(file)
        elif "ImageID" in header:
            self._images.append(file)
        elif header[:1] == ["LabelName"] or (header and header[0].startswith(_CLASS_PREFIXES)):
            self._names.append(file)

    def _read(self) -> Listing:
        if self._listing is None:
            listing = Listing()
            for file in self._images:
                listing.add_images(self._list(file))
            names = dict(pair for file in self._names for pair in _class_names(file))
            for file in self._labels:
                listing.add_labels(_positive_labels(file, names))
            for file in self._captions:
                listing.add_captions(_narratives(file))
            listing.close_listing(self._folder)
            if not listing.num_images():
                raise SourceError(f"{self._images[0]} lists no images. Download it again.")
            check_any_image(listing.paths(), self._images[0])
            self._listing = listing
        return self._listing

    def _list(self, file: Path) -> Iterator[ListedImage]:
        folders: dict[str, Path] = {}
        for number, row in _csv_rows(file):
            id = _column(row, "ImageID", file, number)
            subset = row.get("Subset") or _subset_of(file)
            if subset and subset not in _SUBSETS:
                raise SourceError(
                    f"{file}, line {number}: unknown split {subset!r}. Open Images has train,"
                    " validation and test."
                )
            if subset not in folders:
                folders[subset] = _image_folder(self._folder, subset)
            split = _SUBSETS[subset] if subset else hash_split(id)
            yield ListedImage(id, id, os.path.join(folders[subset], f"{id}.jpg"), split)


def _open(file: Path):
    return file.open(encoding="utf-8", newline="")


def _subset_of(file: Path) -> str:
    text = f"{file.parent.parent.name}/{file.parent.name}/{file.name}".lower()
    return next((subset for subset in ("train", "validation", "test") if subset in text), "")


def _image_folder(folder: Path, subset: str) -> Path:
    places = [
        folder / subset / "data",
        folder / "images" / subset,
        folder / subset / "images",
        folder / subset,
        folder / "images",
    ]
    for place in places if subset else places[-1:]:
        if holds(place, ".jpg"):
            return place
    return folder / subset if subset else folder / "images"


def _csv_rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    with _open(file) as text:
        reader = csv.DictReader(text)
        try:
            for row in reader:
                yield reader.line_num, row
        except (csv.Error, UnicodeDecodeError) as error:
            raise SourceError(
                f"{file}, line {reader.line_num + 1}: cannot be read as CSV: {error}."
                " Download the file again."
            ) from None


def _column(row: dict[str, str], name: str, file: Path, number: int) -> str:
    value = row.get(name)
    if not value:
        raise SourceError(
            f"{file}, line {number}: `{name}` is missing. Correct the line, or download the file"
            " again."
        )
    return value


def _positive_labels(file: Path, names: dict[str, str]) -> Iterator[tuple[str, str]]:
    for number, row in _csv_rows(file):
        label = _column(row, "LabelName", file, number)
        confidence = row.get("Confidence") or "1"
        try:
            positive = float(confidence) > POSITIVE
        except ValueError:
            raise SourceError(
                f"{file}, line {number}: `Confidence` must be a number, got {confidence!r}."
            ) from None
        if positive:
            yield _column(row, "ImageID", file, number), names.get(label, label)


def _class_names(file: Path) -> Iterator[tuple[str, str]]:
    with _open(file) as text:
        for number, row in enumerate(csv.reader(text), start=1):
            if number == 1 and row[:1] == ["LabelName"]:
                continue
            if len(row) < 2:
                raise SourceError(
                    f"{file}, line {number}: expected a class and its name, got {row}."
                )
            yield row[0], row[1]


def _narratives(file: Path) -> Iterator[tuple[str, str]]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                narrative = json.loads(line)
                yield str(narrative["image_id"]), str(narrative["caption"])
            except (ValueError, TypeError, KeyError) as error:
                raise SourceError(
                    f"{file}, line {number}: expected"
                    ' {"image_id": "…", "caption": "…"}, got'
                    f" {line[:80].decode(errors='replace').strip()} ({error!r}). Correct the line."
                ) from None
