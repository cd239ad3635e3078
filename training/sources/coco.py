"""COCO captions: `annotations/captions_*.json`, images in `train2017/` and so on.

Where `instances_*.json` lies beside a captions file, its categories become the labels. A file
named `captions_val*` gives the test split and a `captions_train*` file train, of which the ids
decide two in a hundred to be val, so that choosing and testing never share an image. From
another file the ids decide 0.8 / 0.1 / 0.1.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from koine.artifact import sha256_file
from koine.errors import SourceError
from training.activations.rows import Split
from training.sources.item import Item, Scan, check_any_image, check_folder, hash_split
from training.sources.json_arrays import iterate_array
from training.sources.listing import ListedImage, Listing

PREFIX = "captions_"


class CocoCaptions:
    """Source over COCO's annotation files."""

    kind = "coco"

    def __init__(self, folder: Path) -> None:
        check_folder(folder)
        self._folder = folder
        self._files = sorted(folder.glob(f"annotations/{PREFIX}*.json")) or sorted(
            folder.glob(f"{PREFIX}*.json")
        )
        if not self._files:
            raise SourceError(
                f"{folder} has no annotations/{PREFIX}*.json. Put COCO's caption files there"
                " (captions_train2017.json, captions_val2017.json), or choose another --source."
            )
        self._listing: Listing | None = None

    def scan(self) -> Scan:
        listing = self._read()
        return Scan(listing.num_images(), listing.num_captions(), self._fingerprint())

    def items(self, start: int = 0) -> Iterator[Item]:
        return self._read().items(start)

    def _read(self) -> Listing:
        if self._listing is None:
            listing = Listing()
            for file in self._files:
                subset = file.stem.removeprefix(PREFIX)
                listing.add_images(self._images(file, subset))
                listing.add_captions(_captions(file, subset))
                instances = file.with_name(f"instances_{subset}.json")
                if instances.is_file():
                    listing.add_labels(_labels(instances, subset))
            listing.close_listing(self._folder)
            self._check(listing)
            self._listing = listing
        return self._listing

    def _check(self, listing: Listing) -> None:
        orphans, key = listing.orphan_captions()
        if orphans:
            raise SourceError(
                f"{self._folder} has captions without images: {orphans:,} annotations whose image"
                f" is not under `images`, for example {key}. Download the annotation files again."
            )
        if not listing.num_images():
            raise SourceError(f"{self._files[0]} lists no images. Download it again.")
        check_any_image(listing.paths(), self._files[0])

    def _images(self, file: Path, subset: str) -> Iterator[ListedImage]:
        folder = _image_folder(self._folder, subset)
        for image in iterate_array(file, "images"):
            name = str(_field(image, "file_name", file))
            id = f"{subset}/{name}"
            yield ListedImage(
                key=f"{subset}:{_field(image, 'id', file)}",
                id=id,
                path=os.path.join(folder, name),
                split=_split(subset, id),
            )

    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for file in self._files:
            for part in (file, file.with_name(file.name.replace(PREFIX, "instances_"))):
                if part.is_file():
                    digest.update(f"{part.name} {sha256_file(part)}\n".encode())
        return f"sha256:{digest.hexdigest()}"


def _image_folder(folder: Path, subset: str) -> Path:
    for place in (folder / subset, folder / "images" / subset, folder / "images"):
        if place.is_dir():
            return place
    return folder / subset


def _captions(file: Path, subset: str) -> Iterator[tuple[str, str]]:
    for annotation in iterate_array(file, "annotations"):
        key = f"{subset}:{_field(annotation, 'image_id', file)}"
        yield key, str(_field(annotation, "caption", file))


def _labels(file: Path, subset: str) -> Iterator[tuple[str, str]]:
    names = {
        _field(category, "id", file): str(_field(category, "name", file))
        for category in iterate_array(file, "categories")
    }
    for annotation in iterate_array(file, "annotations"):
        category = _field(annotation, "category_id", file)
        if category not in names:
            raise SourceError(f"{file}: category {category!r} is not under `categories`.")
        yield f"{subset}:{_field(annotation, 'image_id', file)}", names[category]


def _field(element: dict[str, Any], name: str, file: Path) -> Any:
    if name not in element:
        raise SourceError(
            f"{file}: an element lacks `{name}`, it has {', '.join(element)}. Is it a COCO"
            " annotation file?"
        )
    return element[name]


def _split(subset: str, id: str) -> Split:
    if subset.startswith("val"):
        return "test"
    if subset.startswith("train"):
        return hash_split(id, train=0.98, val=0.02)
    return hash_split(id)
