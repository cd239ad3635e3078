"""Small pictures for the report, as data URIs: exemplars from naming, items from the data folder.

The store holds no images and does not say where they lie; `--data` does. Every picture is made
anew as a small JPEG, so that a page's weight is bounded and no metadata of a photograph leaves.
"""

from __future__ import annotations

import base64
import io
import logging
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageOps

from koine.errors import DataError, ImageError, RequestError
from koine.images import decode_image
from training.activations import ActivationStore
from training.sources import SOURCES, Source, open_source

SIDE, QUALITY = 120, 72
"""Pixels of a square picture (shown at half of it, so that print is sharp) and JPEG's quality."""
MAX_BYTES = 2_000_000
"""Of all pictures of a page, as base64; what comes later is left out."""
MAX_ENTRY = 4_000_000
"""Bytes of an exemplar's picture, unpacked."""

log = logging.getLogger(__name__)


class Pictures(NamedTuple):
    """Pictures by the name that the report has for them."""

    exemplars: dict[str, str]
    """By `thumbnail`."""
    items: dict[str, str]
    """By item id."""
    left_out: int = 0
    """Pictures beyond `MAX_BYTES`, or that could not be read."""


NO_PICTURES = Pictures({}, {})


def pictures(report: dict[str, Any], exemplars: Path, source: Source | None) -> Pictures:
    """Those that the report's page shows, as far as they are there.

    `exemplars`: naming's zip file, which may be missing; `source`: where the items' images are.
    Raises DataError where the zip file is damaged.
    """
    box = _Box()
    found = Pictures(
        box.fill(_from_zip(exemplars, wanted_exemplars(report))),
        box.fill(_from_source(source, wanted_items(report))),
    )
    if box.left_out:
        log.warning("%d pictures do not fit on the page or cannot be read", box.left_out)
    return found._replace(left_out=box.left_out)


def wanted_exemplars(report: dict[str, Any]) -> set[str]:
    """Names of the thumbnails of the concepts that the report shows."""
    names = report["names"] or {"best": [], "failed": []}
    cards = [*names["best"], *names["failed"]]
    return {each["thumbnail"] for card in cards for each in card["exemplars"] if each["thumbnail"]}


def wanted_items(report: dict[str, Any]) -> set[str]:
    """Ids of the items that the report shows."""
    wanted = set()
    for pair in report["disagreement"].values():
        wanted |= {each["item"] for each in pair["apart"]}
        for side in pair["only"].values():
            wanted |= {item["item"] for each in side["examples"] for item in each["items"]}
    return wanted


class _Box:
    """Makes pictures until `MAX_BYTES` are full."""

    def __init__(self) -> None:
        self.left_out = 0
        self._bytes = 0

    def fill(self, images: Iterable[tuple[str, Callable[[], bytes]]]) -> dict[str, str]:
        made = {}
        for name, read in images:
            try:
                picture = _picture(read())
            except (ImageError, OSError) as error:
                log.warning("no picture of %s: %s", name, error)
                self.left_out += 1
                continue
            if self._bytes + len(picture) > MAX_BYTES:
                self.left_out += 1
                continue
            self._bytes += len(picture)
            made[name] = picture
        return made


def _picture(data: bytes) -> str:
    image = ImageOps.fit(decode_image(data, keep_side=SIDE), (SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _from_zip(path: Path, wanted: set[str]) -> Iterator[tuple[str, Callable[[], bytes]]]:
    if not wanted or not path.is_file():
        return
    try:
        with zipfile.ZipFile(path) as file:
            for name in sorted(wanted & set(file.namelist())):
                yield name, lambda name=name: _entry(file, name)
    except zipfile.BadZipFile as error:
        raise DataError(f"`{path}` is damaged ({error}): name the run again") from error


def _entry(file: zipfile.ZipFile, name: str) -> bytes:
    size = file.getinfo(name).file_size
    if size > MAX_ENTRY:
        raise ImageError(f"it has {size:,} bytes; a thumbnail has at most {MAX_ENTRY:,}")
    return file.read(name)


def source_of(store: ActivationStore, data: Path) -> Source:
    """The source in `data`; RequestError where the store has no images, DataError where the
    folder is not what the store was extracted from."""
    kind, fingerprint = store.manifest.plan.source.kind, store.manifest.plan.source.fingerprint
    if kind not in SOURCES:
        raise RequestError(
            f"`--data` was given, but `{store.path}` was made of activations ({kind}): it has no "
            "images. Leave it out"
        )
    source = open_source(kind, data)
    if source.scan().fingerprint != fingerprint:
        raise DataError(
            f"`{data}` is not the data that `{store.path}` was extracted from: its listing "
            "differs. Give the folder that `extract` read"
        )
    return source


def _from_source(
    source: Source | None, wanted: set[str]
) -> Iterator[tuple[str, Callable[[], bytes]]]:
    left = set(wanted)
    for item in source.items() if source else ():
        if not left:
            return
        if item.id in left:
            left.remove(item.id)
            yield item.id, item.image
