"""One loaded artifact and its queues: plan, admit, decode, batch per stream, select; no HTTP.

The event loop only moves references: decoding and tokenizing have pools of their own, so that
texts do not wait for images, and each graph has a thread of its own. Places in all queues are
taken before anything is decoded, all or none. Items that bring activations only go to the heads
together, in one piece.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from koine.artifact import Artifact
from koine.concepts import Concept, read_concepts
from koine.decoders import Decoders
from koine.encoder import ConceptEncoder
from koine.errors import InputError, KoineError, OverloadedError
from koine.manifest import CONCEPTS, DECODERS
from koine.sessions import cuda_devices
from koine.types import Mode
from service import jobs, metrics, telemetry
from service.batcher import Batcher
from service.hardware import cores_of_worker, gpu_of_worker
from service.jobs import Item, Row, Selection, Source
from service.metrics import HEADS
from service.places import Places, all_of, each_of, reserve
from service.settings import Settings
from service.timings import Timings

Answer = dict[str, Row] | KoineError
"""An item's codes by stream, or why there are none."""
Plan = dict[str, Source] | InputError
"""Where each stream of an item's answer comes from, or why there is none."""
INLINE_CHARS = 1000
"""Texts up to this length are tokenized in the event loop; a hop to a thread would cost more."""
_PROVIDERS = {"auto": None, "cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider"]}


class Pools:
    """The threads that decode images and tokenize texts, for every dictionary."""

    def __init__(self, settings: Settings) -> None:
        threads = settings.decode_threads or cores_of_worker(settings.workers)
        self.decoding = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self.tokenizing = ThreadPoolExecutor(threads, thread_name_prefix="tokenize")

    def close(self) -> None:
        """Ends the threads; what has not begun never does."""
        for pool in (self.decoding, self.tokenizing):
            pool.shutdown(wait=False, cancel_futures=True)


class Loaded(NamedTuple):
    """An artifact in memory."""

    encoder: ConceptEncoder
    concepts: list[Concept]
    decoders: Decoders


def load(path: Path, settings: Settings) -> Loaded:
    """The artifact at `path`, every file verified, loaded and warm. Raises `ArtifactError`."""
    encoder = ConceptEncoder(
        Artifact.open(path, verify=True),
        providers=_PROVIDERS[settings.provider],
        threads=settings.threads or cores_of_worker(settings.workers),
        gpu=gpu_of_worker(cuda_devices()),
    )
    encoder.warm_up()
    artifact = encoder.artifact
    decoders = Decoders(artifact.file(DECODERS))
    return Loaded(encoder, read_concepts(artifact.file(CONCEPTS)), decoders)


class Dictionary:
    """`start` it in an event loop, `encode`, `close` it.

    `labels` are those of the named concepts, by id.
    """

    def __init__(self, loaded: Loaded, settings: Settings, pools: Pools) -> None:
        encoder, self.concepts, self.decoders = loaded
        self.encoder = encoder
        self.labels = {c.id: c.label for c in self.concepts if c.label is not None}
        self._settings, self._pools = settings, pools
        self._users = 0
        batcher = partial(
            Batcher[Any, Any],
            max_batch=settings.max_batch,
            max_queue=settings.max_queue,
            max_wait_s=settings.max_wait_s,
        )
        self._batchers: dict[str, Batcher[Any, Any]] = {
            name: batcher(
                name,
                partial(jobs.backbone_batch, name, encoder=encoder),
                wait_s=settings.batch_wait_ms / 1000,
            )
            for name in encoder.streams
            if jobs.readable(encoder, name)
        }
        self._batchers[HEADS] = batcher(
            HEADS, partial(jobs.select_batch, encoder=encoder), wait_s=0
        )

    @property
    def title(self) -> str:
        """`name@version`."""
        return self.encoder.artifact.manifest.title

    @property
    def queues(self) -> list[str]:
        """Names of its queues: its readable streams and the heads."""
        return list(self._batchers)

    def start(self) -> None:
        """Starts the queues in the running event loop."""
        for batcher in self._batchers.values():
            batcher.start()

    @property
    def alive(self) -> bool:
        """Whether every loop beats."""
        return all(batcher.alive for batcher in self._batchers.values())

    @contextmanager
    def in_use(self) -> Generator[Dictionary]:
        """While it is in use, closing waits."""
        self._users += 1
        try:
            yield self
        finally:
            self._users -= 1

    def check_room(self, modality: str | None = None) -> None:
        """Raises `OverloadedError` where a request is sure to be refused, before it is read.

        With a modality, where one of its streams has no room; without, where no queue has any.
        """
        refused: OverloadedError | None = None
        for name, batcher in self._batchers.items():
            reads = name != HEADS and self.encoder.streams[name].modality == modality
            if modality is not None and not reads:
                continue
            try:
                batcher.room(1)
            except OverloadedError as error:
                if modality is not None:
                    raise
                refused = error
            else:
                if modality is None:
                    return
        if refused is not None:
            raise refused

    async def encode(
        self,
        items: Sequence[Item],
        wanted: Sequence[str] | None,
        mode: Mode,
        timings: Timings | None = None,
        within_s: float = math.inf,
    ) -> list[Answer]:
        """An answer for each item, in order. Raises only what concerns the whole request.

        `within_s`: refuse at once what could not be answered by then. Adds to `timings`.
        """
        encoder = self.encoder
        for name in wanted or ():
            if name not in encoder.streams:
                raise jobs.unknown_stream(name, encoder)
        tasks = [_Task(n, item, _plan(item, wanted, encoder)) for n, item in enumerate(items)]
        for task in tasks:
            task.places = Places(self._queues(task.plan))
        reserve([queue for task in tasks for queue in task.places.left], within_s)
        computed = [task for task in tasks if task.brings_activations]
        work = [self._alone(task, mode) for task in tasks if not task.brings_activations]
        if computed:
            work.append(self._together(computed, mode))
        try:
            parts = await all_of(work)
        finally:
            for task in tasks:  # those that a cancellation kept from starting
                task.places.release()
        if timings is not None:
            timings.add_slowest(task.spent for task in tasks)
        answers = {n: answer for part in parts for n, answer in part.items()}
        return [answers[n] for n in range(len(items))]

    async def _together(self, tasks: Sequence[_Task], mode: Mode) -> dict[int, Answer]:
        """Items of activations only: one piece for the heads."""
        start, spent = time.perf_counter(), tasks[0].spent
        answers: dict[int, Answer] = {}
        selections: dict[int, Selection] = {}
        for task in tasks:
            try:
                selections[task.n] = Selection(self._read_activations(task), mode)
                task.places.left.clear()  # the heads' queue has it from now on
            except InputError as error:
                answers[task.n] = error
                task.places.release()
        end = time.perf_counter()
        spent.decode = end - start
        metrics.STAGE_SECONDS.labels("decode").observe(spent.decode)
        telemetry.stage("decode", start, end)
        if selections:
            rows = await self._batchers[HEADS].enqueue(list(selections.values()), spent)
            answers.update(zip(selections, rows, strict=True))
        return answers

    async def _alone(self, task: _Task, mode: Mode) -> dict[int, Answer]:
        return {task.n: await self._answer(task, mode)}

    async def _answer(self, task: _Task, mode: Mode) -> Answer:
        plan, places = task.plan, task.places
        if isinstance(plan, InputError):
            return plan
        try:
            acts = self._read_activations(task)
            prepared = await self._prepare(task.item, plan, task.spent)
            several = [Timings() for _ in prepared]
            rows = await each_of(
                [
                    places.enqueue(self._batchers[name], item, spent)
                    for (name, item), spent in zip(prepared.items(), several, strict=True)
                ]
            )
            task.spent.add_slowest(several)
            acts |= dict(zip(prepared, rows, strict=True))
            selection = Selection(acts, mode)
            (rows,) = await each_of([places.enqueue(self._batchers[HEADS], selection, task.spent)])
            return rows
        except KoineError as error:
            return error
        finally:
            places.release()

    def _read_activations(self, task: _Task) -> dict[str, np.ndarray]:
        assert not isinstance(task.plan, InputError)
        return {
            name: jobs.read_activations(task.item.activations[name], name, self.encoder)
            for name, source in task.plan.items()
            if source == "activations"
        }

    def _queues(self, plan: Plan) -> list[Batcher[Any, Any]]:
        """The queues that must have room for an item: one stream's load is not another's."""
        if isinstance(plan, InputError):
            return []
        own = [self._batchers[name] for name, source in plan.items() if source != "activations"]
        return own or [self._batchers[HEADS]]

    async def _prepare(self, item: Item, plan: dict[str, Source], spent: Timings) -> dict[str, Any]:
        """What the queues take, decoded off the event loop."""
        start = time.perf_counter()
        encoder, settings, loop = self.encoder, self._settings, asyncio.get_running_loop()
        images = [name for name, source in plan.items() if source == "image"]
        texts = [name for name, source in plan.items() if source == "text"]
        prepared: dict[str, Any] = {}
        if images:
            assert item.image is not None
            read = partial(jobs.read_image, max_pixels=settings.max_pixels)
            prepared |= await loop.run_in_executor(
                self._pools.decoding, read, item.image, images, encoder
            )
        if texts:
            assert item.text is not None
            read = partial(jobs.read_text, item.text, texts, encoder, settings.max_text_chars)
            if len(item.text) <= INLINE_CHARS:
                prepared |= read()
            else:
                prepared |= await loop.run_in_executor(self._pools.tokenizing, read)
        end = time.perf_counter()
        spent.decode = end - start
        metrics.STAGE_SECONDS.labels("decode").observe(spent.decode)
        telemetry.stage("decode", start, end)
        return prepared

    async def close(self) -> None:
        """Finishes what was let in and ends every thread of its own."""
        deadline = time.monotonic() + self._settings.drain_s
        while self._users and time.monotonic() < deadline:
            await asyncio.sleep(0.005)
        left_s = max(0.0, deadline - time.monotonic())
        await asyncio.gather(*(batcher.close(left_s) for batcher in self._batchers.values()))


@dataclass(eq=False, slots=True)
class _Task:
    """One item on its way through the queues."""

    n: int
    item: Item
    plan: Plan
    places: Places = field(default_factory=Places)
    spent: Timings = field(default_factory=Timings)

    @property
    def brings_activations(self) -> bool:
        """Whether the heads are all that it needs."""
        plan = self.plan
        return not isinstance(plan, InputError) and set(plan.values()) == {"activations"}


def _plan(item: Item, wanted: Sequence[str] | None, encoder: ConceptEncoder) -> Plan:
    if item.error is not None:
        return item.error
    try:
        return jobs.sources(item, wanted, encoder)
    except InputError as error:
        return error
