"""One loaded artifact and its queues: plans and admits items, lives and closes; knows no HTTP.

The event loop only moves references: decoding and tokenizing have pools of their own, so that
texts do not wait for images, and each graph has a thread of its own. Places in all queues are
taken before anything is decoded, all or none. How items go on from there stands in `flow.py`.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from koine.artifact import Artifact
from koine.concepts import Concept, read_concepts
from koine.decoders import Decoders
from koine.encoder import ConceptEncoder
from koine.errors import InputError
from koine.exemplars import Exemplars
from koine.finding import Finder
from koine.labels import LabelLayer
from koine.localisation import Localisers
from koine.manifest import CONCEPTS, DECODERS, PROFILE
from koine.profile import Profile, StreamProfile, read_profile
from koine.sessions import cuda_devices
from koine.types import Mode
from service import jobs
from service.admission import Admission
from service.audit import Audit
from service.batcher import Batcher
from service.counting import Served
from service.flow import Answer, Flow, Plan, Pools, Task
from service.hardware import cores_of_worker, gpu_of_worker
from service.jobs import Item
from service.labels import LabelBook
from service.metrics import HEADS
from service.places import Places, reserve
from service.settings import Settings
from service.timings import Timings

_PROVIDERS = {"auto": None, "cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider"]}


class Loaded(NamedTuple):
    """An artifact in memory."""

    encoder: ConceptEncoder
    concepts: list[Concept]
    decoders: Decoders
    exemplars: Exemplars | None
    layer: LabelLayer | None
    localisers: Localisers
    profile: Profile


def load(path: Path, settings: Settings) -> Loaded:
    """The artifact at `path`, every file verified, loaded and warm, and what people say of it.

    Raises `ArtifactError`, `LabelsError`.
    """
    encoder = ConceptEncoder(
        Artifact.open(path, verify=True),
        providers=_PROVIDERS[settings.provider],
        threads=settings.threads or cores_of_worker(settings.workers),
        gpu=gpu_of_worker(cuda_devices()),
    )
    encoder.warm_up()
    artifact = encoder.artifact
    decoders = Decoders(artifact.file(DECODERS))
    concepts = read_concepts(artifact.file(CONCEPTS))
    exemplars = Exemplars.of(artifact)
    layer = None
    if settings.labels is not None:
        layer = LabelLayer(settings.labels, artifact, concepts)
    # one thread, so that it takes no more than that from encoding
    localisers = Localisers(
        artifact, [encoder.provider], threads=1, gpu=gpu_of_worker(cuda_devices())
    )
    profile = read_profile(artifact.file(PROFILE))
    return Loaded(encoder, concepts, decoders, exemplars, layer, localisers, profile)


class Dictionary:
    """`start` it in an event loop, `encode`, `close` it."""

    def __init__(
        self, loaded: Loaded, settings: Settings, pools: Pools, audit: Audit | None = None
    ) -> None:
        self.encoder = encoder = loaded.encoder
        self.decoders, self.exemplars = loaded.decoders, loaded.exemplars
        self.localisers, self.profile = loaded.localisers, loaded.profile
        self.finder, self.lane = Finder(encoder), pools.localising
        self.book = LabelBook(self.title, loaded.concepts, loaded.layer, audit)
        self._settings = settings
        self._users = 0
        self._admission = Admission()
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
        self._counted = Served(
            self.digest,
            self.title,
            tuple(encoder.streams),
            tuple(spec.modality for spec in encoder.streams.values()),
            encoder.num_concepts,
            encoder.k,
            tuple(_top(self.profile.streams[name]) for name in encoder.streams),
        )
        self._flow = Flow(encoder, self._batchers, pools, settings)

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
        self.book.start()

    @property
    def concepts(self) -> list[Concept]:
        """By id, as the label layer has them now."""
        return self.book.labelled.concepts

    @property
    def labels(self) -> Mapping[int, str]:
        """Labels of the named concepts, by id."""
        return self.book.labelled.labels

    @property
    def counted(self) -> Served:
        """What counting its codes needs to know."""
        return self._counted

    @property
    def digest(self) -> str:
        """The artifact's."""
        return self.encoder.artifact.digest

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

    async def check_room(self, modality: str | None = None) -> None:
        """Raises `OverloadedError` where a request is sure to be refused, before it is read.

        With a modality, where one of its streams has no room; without, where no queue has any.
        """
        with self.in_use():
            await self._admission.when_room(lambda _: self._check_room(modality))

    def _check_room(self, modality: str | None) -> None:
        if modality is None:
            queues = list(self._batchers.values())
            if not any(queue.has_room(1) for queue in queues):
                queues[0].room(1)
            return
        for name, queue in self._batchers.items():
            if name != HEADS and self.encoder.streams[name].modality == modality:
                queue.room(1)

    def check_streams(self, wanted: Sequence[str] | None) -> None:
        """Raises `UnknownStreamError` for a stream that it does not have."""
        for name in wanted or ():
            if name not in self.encoder.streams:
                raise jobs.unknown_stream(name, self.encoder)

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
        self.check_streams(wanted)
        tasks = [Task(n, item, _plan(item, wanted, encoder)) for n, item in enumerate(items)]
        for task in tasks:
            task.places = Places(self._flow.queues(task))
        queues = [queue for task in tasks for queue in task.places.left]
        waited_s = await self._admission.when_room(partial(reserve, queues), within_s)
        try:
            answers = await self._flow.answers(tasks, mode)
        finally:
            for task in tasks:  # those that a cancellation kept from starting
                task.places.release()
        if timings is not None:
            timings.add_slowest(task.spent for task in tasks)
            timings.queue += waited_s
        return [answers[n] for n in range(len(items))]

    async def close(self) -> None:
        """Finishes what was let in and ends every thread of its own."""
        deadline = time.monotonic() + self._settings.drain_s
        while self._users and time.monotonic() < deadline:
            await asyncio.sleep(0.005)
        left_s = max(0.0, deadline - time.monotonic())
        await self.book.close()
        if self.exemplars is not None:
            self.exemplars.close()
        await asyncio.gather(*(batcher.close(left_s) for batcher in self._batchers.values()))


def _top(stream: StreamProfile) -> tuple[int, ...]:
    return () if stream.cofiring is None else tuple(stream.cofiring.top_T.tolist())


def _plan(item: Item, wanted: Sequence[str] | None, encoder: ConceptEncoder) -> Plan:
    if item.error is not None:
        return item.error
    try:
        return jobs.streams_by_source(item, wanted, encoder)
    except InputError as error:
        return error
