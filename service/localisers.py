"""One dictionary's queue in front of its localisers, beside those that encode; knows no HTTP.

A localiser encodes an image up to sixteen times: it has a thread, one core and a bounded queue of
its own, and its graph is loaded when it is first asked for.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float32
from PIL import Image

from koine.encoder import ConceptEncoder
from koine.images import decode_image, preprocess_image
from koine.localisation import GridGG, Localisers, overlay, shown_size, spread
from koine.sessions import cuda_devices
from koine.streams import ImagePreprocess
from koine.types import ImageHWC
from service.admission import Admission
from service.batcher import Batcher
from service.flow import Pools
from service.hardware import gpu_of_worker
from service.jobs import image_bytes
from service.metrics import LOCALISERS
from service.places import Places, each_of, reserve
from service.settings import Settings
from service.timings import Timings

T = TypeVar("T")
WORK = 16
"""Times the work of encoding: the queue is as much shorter than the others."""


class _Ready(NamedTuple):
    """A decoded image."""

    pixels_HWC: ImageHWC
    size: tuple[int, int]
    shown: Image.Image


class _Asked(NamedTuple):
    """What the queue holds."""

    stream: str
    pixels_HWC: ImageHWC


class LocaliserQueue:
    """`start` it in an event loop, `place` before `patches`, `close` it."""

    def __init__(self, encoder: ConceptEncoder, settings: Settings, pools: Pools) -> None:
        artifact = encoder.artifact
        self.localisers = Localisers(
            artifact.path,
            artifact.manifest,
            [encoder.provider],
            threads=1,
            gpu=gpu_of_worker(cuda_devices()),
        )
        self._pools, self._settings = pools, settings
        self._admission = Admission()
        self._batcher: Batcher[_Asked, Float32[np.ndarray, "P D"]] = Batcher(
            LOCALISERS,
            self._forward,
            max_batch=1,
            max_queue=max(1, settings.max_queue // WORK),
            max_wait_s=settings.max_wait_s,
            wait_s=0,
        )

    def start(self) -> None:
        """Starts the queue in the running event loop."""
        self._batcher.start()

    @property
    def alive(self) -> bool:
        """Whether its loop beats."""
        return self._batcher.alive

    async def close(self, within_s: float) -> None:
        """Finishes what was let in and ends its thread."""
        await self._batcher.close(within_s)

    async def place(self, within_s: float) -> Places:
        """A place in the queue, to be released. Raises `OverloadedError`."""
        await self._admission.when_room(partial(reserve, [self._batcher]), within_s)
        return Places([self._batcher])

    async def decoded(self, image: str | bytes, stream: str) -> _Ready:
        """The image as the stream reads it, and as it is shown. Raises `ImageError`."""
        spec = self.localisers.spec(stream)
        return await self._in_pool(partial(_decoded, image, spec, self._settings.max_pixels))

    async def patches(
        self, ready: _Ready, stream: str, places: Places, timings: Timings
    ) -> Float32[np.ndarray, "P D"]:
        """The activations split over patches."""
        asked = _Asked(stream, ready.pixels_HWC)
        (patches_PD,) = await each_of([places.enqueue(self._batcher, asked, timings)])
        return patches_PD

    async def drawn(self, ready: _Ready, stream: str, grid_GG: GridGG) -> bytes:
        """The overlay as PNG."""
        spec = self.localisers.spec(stream)
        return await self._in_pool(partial(_drawn, ready, spec, grid_GG))

    async def _in_pool(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pools.decoding, work)

    def _forward(self, batch: Sequence[_Asked]) -> list[Float32[np.ndarray, "P D"]]:
        return [self.localisers.patches(a.stream, a.pixels_HWC[None])[0] for a in batch]


def _decoded(image: str | bytes, spec: ImagePreprocess, max_pixels: int) -> _Ready:
    decoded = decode_image(image_bytes(image), max_pixels=max_pixels)
    # what waits in the queue is no larger than what is shown
    shown = decoded.resize(shown_size(decoded.size))
    return _Ready(preprocess_image(decoded, spec), decoded.size, shown)


def _drawn(ready: _Ready, spec: ImagePreprocess, grid_GG: GridGG) -> bytes:
    file = io.BytesIO()
    overlay(ready.shown, spread(grid_GG, ready.size, spec)).save(file, "PNG", compress_level=1)
    return file.getvalue()
