"""Items that show what a concept is, and their thumbnails; names nothing."""

from __future__ import annotations

import hashlib
import io
import logging
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from koine.concepts import Exemplar
from koine.errors import ImageError
from koine.images import decode_image
from training.naming.seen import Seen
from training.progress import Bar
from training.sources import Source

SIDE = 128
"""Pixels of a thumbnail's longer side at most."""
_QUALITY = 80
_LONGEST = 500
"""Characters kept of a caption."""
_EPOCH = (1980, 1, 1, 0, 0, 0)

log = logging.getLogger(__name__)


def exemplars(seen: Seen, most: int) -> list[list[Exemplar]]:
    """For each concept the items on which it is strongest, streams in turn, no item twice."""
    columns = {name: codes.tocsc() for name, codes in seen.codes.items()}
    found: list[list[Exemplar]] = []
    for concept in range(seen.num_concepts):
        ranked: dict[str, list[tuple[int, float]]] = {}
        for name, each in columns.items():
            part = slice(each.indptr[concept], each.indptr[concept + 1])
            at_M = seen.present[name][each.indices[part]]
            value_M = np.asarray(each.data[part], np.float64)
            first_M = np.argsort(-value_M, kind="stable")[: most * len(columns)]
            ranked[name] = [(int(at_M[i]), float(value_M[i])) for i in first_M]
        found.append(_in_turn(ranked, seen, most))
    return found


def with_thumbnails(
    chosen: Sequence[Sequence[Exemplar]], source: Source, out: Path, bar: Bar
) -> list[list[Exemplar]]:
    """The same exemplars, naming their thumbnails in the zip file that is written at `out`.

    A thumbnail is stored once, whatever number of concepts and items show it. Items whose image is
    not there or damaged go without; one line says how many.
    """
    wanted = {exemplar.item for each in chosen for exemplar in each}
    names: dict[str, str] = {}
    lost = len(wanted)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        written: set[str] = set()
        for item in source.items():
            if item.id not in wanted:
                continue
            bar.advance()
            try:
                data = thumbnail(item.image())
            except (ImageError, OSError):
                continue
            lost -= 1
            name = names[item.id] = f"{hashlib.sha256(data).hexdigest()[:20]}.jpg"
            if name not in written:
                written.add(name)
                # a fixed date, so that equal thumbnails give equal files
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
    if lost:
        log.warning("no thumbnail for %d of %d exemplars: no readable image", lost, len(wanted))
    return [
        [exemplar.model_copy(update={"thumbnail": names.get(exemplar.item)}) for exemplar in each]
        for each in chosen
    ]


def thumbnail(data: bytes) -> bytes:
    """A JPEG of the image at no more than SIDE × SIDE pixels. Raises ImageError."""
    image = decode_image(data, keep_side=SIDE)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=_QUALITY, optimize=True)
    return out.getvalue()


def _in_turn(
    ranked: Mapping[str, Iterable[tuple[int, float]]], seen: Seen, most: int
) -> list[Exemplar]:
    left = {name: iter(each) for name, each in ranked.items()}
    taken: set[int] = set()
    chosen: list[Exemplar] = []
    while left and len(chosen) < most:
        for name in list(left):
            place, value = next((pair for pair in left[name] if pair[0] not in taken), (-1, 0.0))
            if place < 0:
                del left[name]
            elif len(chosen) < most:
                taken.add(place)
                chosen.append(_exemplar(seen, place, name, value))
    return chosen


def _exemplar(seen: Seen, place: int, stream: str, value: float) -> Exemplar:
    row = seen.rows[place]
    caption = row.captions[0][:_LONGEST] if row.captions else None
    return Exemplar(item=row.id, stream=stream, value=round(value, 4), caption=caption)
