"""From items to codes: admit, decode in pools, batch per stream, select; knows no HTTP.

The event loop only moves references: decoding and tokenizing have pools of their own, so that
texts do not wait for images, and each graph has a thread of its own. Places in all queues are
taken before anything is decoded, all or none.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import koine
from koine.artifact import Artifact
from koine.encoder import ConceptEncoder
from koine.errors import ArtifactError, InputError, KoineError, NotReadyError
from koine.types import Mode
from service import jobs, metrics
from service.batcher import Batcher
from service.jobs import Item, Row, Selection, Source
from service.metrics import HEADS
from service.settings import PREFIX, Settings

T = TypeVar("T")
Answer = dict[str, Row] | KoineError
_PROVIDERS = {"auto": None, "cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider"]}

log = logging.getLogger(__name__)


def open_artifact(settings: Settings) -> Artifact:
    """The artifact that the settings name, every file verified. Raises `ArtifactError`."""
    if settings.artifact is None:
        raise ArtifactError(
            f"{PREFIX}ARTIFACT is not set; set it to the directory that `export` wrote, such as "
            f"{PREFIX}ARTIFACT=runs/demo/artifact"
        )
    return Artifact.open(settings.artifact, verify=True)


class Pipeline:
    """One artifact, its queues and its threads. `load` it, `encode`, `close` it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        threads = settings.decode_threads or os.cpu_count() or 1
        self._decoding = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._tokenizing = ThreadPoolExecutor(threads, thread_name_prefix="tokenize")
        self._encoder: ConceptEncoder | None = None
        self._reason = "the artifact is being verified and warmed up; try again"
        self._batchers: dict[str, Batcher[Any, Any]] = {}

    async def load(self) -> None:
        """Verifies, loads and warms up; a failure stays the reason not to be ready."""
        start = time.perf_counter()
        try:
            encoder = await asyncio.to_thread(self._load)
        except KoineError as error:
            log.error("not ready: %s", error)
            self._reason = f"{error.title}: {error}"
            return
        except Exception:  # the edge of the loading task: nobody awaits it
            log.exception("not ready: loading failed")
            self._reason = "loading failed; the server's log says why"
            return
        self._start_queues(encoder)
        self._encoder = encoder
        metrics.READY.set(1)
        title = encoder.artifact.manifest.title
        log.info("serving %s, loaded in %.1f s", title, time.perf_counter() - start)

    def _load(self) -> ConceptEncoder:
        encoder = ConceptEncoder(
            open_artifact(self._settings),
            providers=_PROVIDERS[self._settings.provider],
            threads=self._settings.threads,
        )
        encoder.warm_up()
        return encoder

    def _start_queues(self, encoder: ConceptEncoder) -> None:
        settings = self._settings
        sizes = {"max_batch": settings.max_batch, "max_queue": settings.max_queue}
        for name in encoder.streams:
            if jobs.readable(encoder, name):
                forward = partial(jobs.backbone_batch, name, encoder=encoder)
                self._batchers[name] = Batcher(
                    name, forward, wait_s=settings.batch_wait_ms / 1000, **sizes
                )
        self._batchers[HEADS] = Batcher(
            HEADS, partial(jobs.select_batch, encoder=encoder), wait_s=0, **sizes
        )
        for batcher in self._batchers.values():
            batcher.start()
        metrics.prepare(list(self._batchers))
        metrics.QUEUE_LIMIT.set(settings.max_queue)
        title = encoder.artifact.manifest.title
        metrics.BUILD.labels(koine.__version__, title, encoder.provider).set(1)

    @property
    def encoder(self) -> ConceptEncoder:
        """The loaded artifact. Raises `NotReadyError`, with the reason."""
        if self._encoder is None:
            raise NotReadyError(self._reason)
        return self._encoder

    @property
    def alive(self) -> bool:
        """Whether every loop beats; true while loading."""
        return all(batcher.alive for batcher in self._batchers.values())

    def check_room_for_image(self) -> None:
        """Raises `OverloadedError` when an image is sure to be refused, before it is read."""
        for name in self.encoder.streams:
            if name in self._batchers and self.encoder.streams[name].modality == "image":
                self._batchers[name].room(1)

    async def encode(
        self, items: Sequence[Item], wanted: Sequence[str] | None, mode: Mode
    ) -> list[Answer]:
        """An answer for each item, in order. Raises only what concerns the whole request."""
        encoder = self.encoder
        for name in wanted or ():
            if name not in encoder.streams:
                raise jobs.unknown_stream(name, encoder)
        plans = [_plan(item, wanted, encoder) for item in items]
        places = [_Places(self._queues(plan)) for plan in plans]
        _reserve([batcher for held in places for batcher in held.left])
        try:
            return await _all(
                [
                    self._answer(item, plan, mode, held)
                    for item, plan, held in zip(items, plans, places, strict=True)
                ]
            )
        finally:
            for held in places:  # those of items that a cancellation kept from starting
                held.release()

    async def _answer(
        self, item: Item, plan: dict[str, Source] | InputError, mode: Mode, places: _Places
    ) -> Answer:
        if isinstance(plan, InputError):
            return plan
        try:
            prepared = await self._prepare(item, plan)
            acts = {name: x for name, x in prepared.items() if plan[name] == "activations"}
            waiting = [name for name in prepared if plan[name] != "activations"]
            rows = await _all(
                [places.submit(self._batchers[name], prepared[name]) for name in waiting]
            )
            acts |= dict(zip(waiting, rows, strict=True))
            return await places.submit(self._batchers[HEADS], Selection(acts, mode))
        except KoineError as error:
            return error
        finally:
            places.release()

    def _queues(self, plan: dict[str, Source] | InputError) -> list[Batcher[Any, Any]]:
        """The queues that must have room for an item: one stream's load is not another's."""
        if isinstance(plan, InputError):
            return []
        own = [self._batchers[name] for name, source in plan.items() if source != "activations"]
        return own or [self._batchers[HEADS]]

    async def _prepare(self, item: Item, plan: dict[str, Source]) -> dict[str, Any]:
        """What the queues take, decoded off the event loop."""
        start = time.perf_counter()
        encoder, settings, loop = self.encoder, self._settings, asyncio.get_running_loop()
        images = [name for name, source in plan.items() if source == "image"]
        texts = [name for name, source in plan.items() if source == "text"]
        prepared: dict[str, Any] = {
            name: jobs.read_activations(item.activations[name], name, encoder)
            for name, source in plan.items()
            if source == "activations"
        }
        if images:
            assert item.image is not None
            read = partial(
                jobs.read_image,
                max_pixels=settings.max_pixels,
                jpeg_shrink=settings.jpeg_shrink,
            )
            prepared |= await loop.run_in_executor(
                self._decoding, read, item.image, images, encoder
            )
        if texts:
            assert item.text is not None
            read = partial(jobs.read_text, max_chars=settings.max_text_chars)
            prepared |= await loop.run_in_executor(
                self._tokenizing, read, item.text, texts, encoder
            )
        metrics.STAGE_SECONDS.labels("decode").observe(time.perf_counter() - start)
        return prepared

    async def close(self) -> None:
        """Finishes what was admitted and ends every thread."""
        metrics.READY.set(0)
        for batcher in self._batchers.values():
            await batcher.close()
        self._encoder = None
        self._reason = "the service is stopping"
        for pool in (self._decoding, self._tokenizing):
            pool.shutdown(wait=False, cancel_futures=True)


class _Places:
    """The places in queues that one item holds."""

    def __init__(self, queues: list[Batcher[Any, Any]]) -> None:
        self.left = queues

    async def submit(self, batcher: Batcher[Any, T], item: object) -> T:
        """The queue's result; a place that was held for it is the queue's from now on."""
        reserved = batcher in self.left
        if reserved:
            self.left.remove(batcher)
        return await batcher.submit(item, reserved=reserved)

    def release(self) -> None:
        """Gives back what was not used."""
        while self.left:
            self.left.pop().release(1)


def _reserve(wanted: Sequence[Batcher[Any, Any]]) -> None:
    """Takes all places or none. Raises `OverloadedError`."""
    counts = Counter(wanted)
    for batcher, items in counts.items():
        batcher.room(items)
    for batcher, items in counts.items():
        batcher.reserve(items)


def _plan(
    item: Item, wanted: Sequence[str] | None, encoder: ConceptEncoder
) -> dict[str, Source] | InputError:
    if item.error is not None:
        return item.error
    try:
        return jobs.sources(item, wanted, encoder)
    except InputError as error:
        return error


async def _all(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Results of all, in order; on the first failure or a cancellation none is left running."""
    tasks = [asyncio.create_task(part) for part in work]
    if not tasks:
        return []
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in _failed(done):
            task.result()
        return [task.result() for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _failed(tasks: set[asyncio.Task[T]]) -> list[asyncio.Task[T]]:
    return [task for task in tasks if not task.cancelled() and task.exception() is not None]
