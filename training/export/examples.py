"""Items as each backbone reads them, by split: images out of the source, captions of the store.

An activation store keeps no pixels; whoever calibrates or teaches a backbone needs its source.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from koine.errors import ExportError
from koine.texts import Tokens
from koine.types import ImagesNHWC
from training.activations.preparation import Preparation, in_order
from training.activations.rows import Split
from training.activations.store import ActivationStore
from training.encoders.encoder import Encoder
from training.sources import Source, open_source

BATCH = 16
_THREADS = 2


class Examples:
    """Prepared batches of a store's items."""

    def __init__(
        self, store: ActivationStore, encoders: Mapping[str, Encoder], source: Source | None
    ) -> None:
        """Raises `ExportError` where image encoders have no source, or not the store's own."""
        self._store, self._encoders, self._source = store, encoders, source
        images = [name for name, encoder in encoders.items() if encoder.modality == "image"]
        if source is None and images:
            raise ExportError(
                f"the store keeps no pixels, and stream `{images[0]}` reads images; give the "
                "folder that `extract` read with --data"
            )
        if source is not None:
            _check_source(source, store)

    def batches(
        self, stream: str, split: Split, limit: int | None = None
    ) -> Iterator[ImagesNHWC | Tokens]:
        """Up to `limit` items of a split in the store's order, `BATCH` at a time."""
        encoder = self._encoders[stream]
        if encoder.modality == "text":
            captions = itertools.islice(self._captions(split), limit)
            while part := list(itertools.islice(captions, BATCH)):
                yield encoder.prepare(part)
            return
        images = itertools.islice(self._images(stream, split), limit)
        while part := list(itertools.islice(images, BATCH)):
            yield np.concatenate(part)

    def all_of(self, stream: str, split: Split, limit: int) -> ImagesNHWC | Tokens:
        """Up to `limit` items of a split in one batch."""
        encoder = self._encoders[stream]
        if encoder.modality == "text":
            return encoder.prepare(list(itertools.islice(self._captions(split), limit)))
        images = list(itertools.islice(self._images(stream, split), limit))
        return np.concatenate(images) if images else np.zeros((0, 1, 1, 3), np.uint8)

    def _captions(self, split: Split) -> Iterator[str]:
        for row in self._store.split(split).tolist():
            # any of them: what is served is no item's first one in particular
            if captions := self._store.row(row).captions:
                yield captions[row % len(captions)]

    def _images(self, stream: str, split: Split) -> Iterator[ImagesNHWC]:
        assert self._source is not None
        prepare = Preparation({stream: self._encoders[stream]})
        items = (item for item in self._source.items() if item.split == split)
        for one in in_order(prepare, items, threads=_THREADS, window=4 * BATCH):
            if one.skipped is None:
                yield one.images[stream]


def held_out(store: ActivationStore) -> Split:
    """The split that figures are measured on: test, else val, else train."""
    splits: tuple[Split, ...] = ("test", "val", "train")
    return next(split for split in splits if len(store.split(split)))


def source_of(data: Path | None, kind: str | None) -> Source | None:
    """The source in a folder, None without one; `kind` is the layout, as the recipe says it."""
    return None if data is None else open_source(kind or "captions-folder", data)


def _check_source(source: Source, store: ActivationStore) -> None:
    found, wanted = source.scan().fingerprint, store.manifest.plan.source.fingerprint
    if found != wanted:
        raise ExportError(
            f"the data given is not what the store {store.path} was extracted from: fingerprint "
            f"{found[:19]}, the store's is {wanted[:19]}; give the folder that `extract` read"
        )
