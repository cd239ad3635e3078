"""Decode and preprocess items in threads ahead of the encoders; runs no encoder."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from koine.errors import ImageError, TextError
from koine.images import decode_image
from koine.streams import Preprocess
from koine.types import ImagesNHWC
from training.encoders import Encoder
from training.sources import Item


class Prepared(NamedTuple):
    """An item ready for the encoders, or the reason why it is left out."""

    item: Item
    captions: tuple[str, ...]
    """Those that every text stream can encode."""
    dropped: tuple[str, ...]
    """Why other captions were dropped."""
    images: Mapping[str, ImagesNHWC]
    """By image stream: a batch of one."""
    skipped: str | None
    """Why the whole row is left out: streams must describe the same item, so all lose it."""


class Preparation:
    """Prepares single items for a set of encoders."""

    def __init__(self, encoders: Mapping[str, Encoder]) -> None:
        self._image = {name: e for name, e in encoders.items() if e.modality == "image"}
        self._text = {name: e for name, e in encoders.items() if e.modality == "text"}

    def __call__(self, item: Item) -> Prepared:
        """Read, decode and preprocess an item; its failure is part of the result."""
        captions, dropped = self._usable(item.captions)
        if not self._image and not captions:
            reason = "it has no caption, and all streams read text"
            return Prepared(item, captions, dropped, {}, reason)
        try:
            images = self._images(item)
        except (ImageError, OSError) as error:
            return Prepared(item, captions, dropped, {}, str(error))
        return Prepared(item, captions, dropped, images, None)

    def _images(self, item: Item) -> dict[str, ImagesNHWC]:
        if not self._image:
            return {}
        image = decode_image(item.image())
        by_spec: dict[Preprocess, ImagesNHWC] = {}
        for encoder in self._image.values():
            if encoder.preprocess not in by_spec:
                batch = encoder.prepare([image])
                assert not isinstance(batch, tuple)  # tokens come of texts only
                by_spec[encoder.preprocess] = batch
        return {name: by_spec[encoder.preprocess] for name, encoder in self._image.items()}

    def _usable(self, captions: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        usable: list[str] = []
        dropped: list[str] = []
        for number, caption in enumerate(captions, start=1):
            try:
                if not caption.strip():
                    raise TextError("it is blank")
                for encoder in self._text.values():
                    encoder.prepare([caption])
            except TextError as error:
                dropped.append(f"caption {number}: {error}")
            else:
                usable.append(caption)
        return tuple(usable), tuple(dropped)


def in_order(
    prepare: Callable[[Item], Prepared], items: Iterable[Item], *, threads: int, window: int
) -> Iterator[Prepared]:
    """Prepare items in threads, at most `window` of them ahead, and yield them in order."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="prepare")
    pending: deque[Future[Prepared]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(prepare, item))
            if len(pending) >= window:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
