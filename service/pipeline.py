"""From items to codes: admit, decode in a pool, batch per stream, select; knows no HTTP.

The event loop only moves references: decoding and tokenizing run in a pool, each graph in a
thread of its own. Places in all queues are taken before anything is decoded, all or none.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np

from koine.artifact import Artifact
from koine.encoder import ConceptEncoder
from koine.errors import ArtifactError, InputError, KoineError, NotReadyError
from koine.types import Mode
from service import jobs, metrics
from service.batcher import Batcher
from service.jobs import Item, Row, Selection, Source
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
        self._pool = ThreadPoolExecutor(
            settings.decode_threads or os.cpu_count() or 1, thread_name_prefix="decode"
        )
        self._encoder: ConceptEncoder | None = None
        self._reason = "the artifact is being verified and warmed up; try again"
        self._backbones: dict[str, Batcher[Any, np.ndarray]] = {}
        self._heads: Batcher[Selection, dict[str, Row]] | None = None

    async def load(self) -> None:
        """Verifies, loads and warms up; a failure stays the reason not to be ready."""
        start = time.perf_counter()
        try:
            encoder = await self.in_pool(self._load)
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
                self._backbones[name] = Batcher(
                    name, forward, wait_s=settings.batch_wait_ms / 1000, **sizes
                )
        self._heads = Batcher(
            metrics.CODES_QUEUE, partial(jobs.select_batch, encoder=encoder), wait_s=0, **sizes
        )
        for batcher in self._batchers():
            batcher.start()

    def _batchers(self) -> list[Batcher[Any, Any]]:
        return [*self._backbones.values(), *([self._heads] if self._heads else [])]

    @property
    def encoder(self) -> ConceptEncoder:
        """The loaded artifact. Raises `NotReadyError`, with the reason."""
        if self._encoder is None:
            raise NotReadyError(self._reason)
        return self._encoder

    @property
    def queues(self) -> list[str]:
        """Names of the queues."""
        return [batcher.name for batcher in self._batchers()]

    @property
    def alive(self) -> bool:
        """Whether every loop beats; true while loading."""
        return all(batcher.alive for batcher in self._batchers())

    def check_room(self) -> None:
        """Raises `OverloadedError` when a queue is full, so that no body is read in vain."""
        for batcher in self._batchers():
            batcher.room(1)

    async def in_pool(self, call: Callable[..., T], *args: Any) -> T:
        """Runs CPU work off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, call, *args)

    async def encode(
        self, items: Sequence[Item], wanted: Sequence[str] | None, mode: Mode
    ) -> list[Answer]:
        """An answer for each item, in order. Raises only what concerns the whole request."""
        encoder = self.encoder
        for name in wanted or ():
            if name not in encoder.streams:
                raise jobs.unknown_stream(name, encoder)
        plans = [_plan(item, wanted, encoder) for item in items]
        places = Counter(
            name
            for plan in plans
            if not isinstance(plan, InputError)
            for name in (*(n for n, s in plan.items() if s != "activations"), metrics.CODES_QUEUE)
        )
        with _Admission(self._batchers(), places) as admission:
            return await _all(
                [
                    self._answer(item, plan, mode, admission)
                    for item, plan in zip(items, plans, strict=True)
                ]
            )

    async def _answer(
        self, item: Item, plan: dict[str, Source] | InputError, mode: Mode, admission: _Admission
    ) -> Answer:
        if isinstance(plan, InputError):
            return plan
        try:
            prepared = await self._prepare(item, plan)
            acts = {name: x for name, x in prepared.items() if plan[name] == "activations"}
            waiting = [name for name in prepared if plan[name] != "activations"]
            rows = await _all(
                [admission.submit(self._backbones[name], prepared[name]) for name in waiting]
            )
            acts |= dict(zip(waiting, rows, strict=True))
            assert self._heads is not None
            return await admission.submit(self._heads, Selection(acts, mode))
        except KoineError as error:
            return error

    async def _prepare(self, item: Item, plan: dict[str, Source]) -> dict[str, Any]:
        """What the queues take, decoded off the event loop."""
        start = time.perf_counter()
        encoder, settings = self.encoder, self._settings
        images = [name for name, source in plan.items() if source == "image"]
        texts = [name for name, source in plan.items() if source == "text"]
        prepared: dict[str, Any] = {
            name: jobs.read_activations((item.activations or {})[name], name, encoder)
            for name, source in plan.items()
            if source == "activations"
        }
        if images:
            read = partial(jobs.read_image, max_pixels=settings.max_pixels)
            prepared |= await self.in_pool(read, item.image, images, encoder)
        if texts:
            read = partial(jobs.read_text, max_chars=settings.max_text_chars)
            prepared |= await self.in_pool(read, item.text, texts, encoder)
        metrics.STAGE_SECONDS.labels("decode").observe(time.perf_counter() - start)
        return prepared

    async def close(self) -> None:
        """Finishes what was admitted and ends every thread."""
        metrics.READY.set(0)
        self._encoder = None
        self._reason = "the service is stopping"
        for batcher in self._batchers():
            await batcher.close()
        self._pool.shutdown(wait=False, cancel_futures=True)


class _Admission:
    """The places that one request holds; what it did not use goes back when it ends."""

    def __init__(self, batchers: Sequence[Batcher[Any, Any]], places: Counter[str]) -> None:
        self._left = {batcher: places[batcher.name] for batcher in batchers}

    def __enter__(self) -> _Admission:
        for batcher, items in self._left.items():
            batcher.room(items)
        for batcher, items in self._left.items():
            batcher.reserve(items)
        return self

    def __exit__(self, *_: object) -> None:
        for batcher, items in self._left.items():
            batcher.release(items)

    async def submit(self, batcher: Batcher[Any, T], item: object) -> T:
        self._left[batcher] -= 1
        return await batcher.submit(item)


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
