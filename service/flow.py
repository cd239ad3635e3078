"""How the items of one request go through a dictionary's queues; admits nothing, knows no HTTP.

Every image is decoded by itself in a pool and queued as soon as it is ready. Items without an image
go together: their texts in one piece for each text stream, then all in one piece to the heads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from koine.encoder import ConceptEncoder
from koine.errors import InputError, KoineError
from koine.texts import Tokens
from koine.types import Mode
from service import jobs, metrics, telemetry
from service.batcher import Batcher
from service.hardware import cores_of_worker
from service.jobs import Item, Row, Selection, Source
from service.lane import Lane
from service.metrics import HEADS
from service.places import Places, all_of, each_of, pieces_of
from service.settings import Settings
from service.timings import Timings

Answer = dict[str, Row] | KoineError
"""An item's codes by stream, or why there are none."""
Plan = dict[Source, list[str]] | InputError
"""Which streams of an item's answer come from what it has, or why there are none."""
INLINE_CHARS = 4000
"""Texts up to this length together are tokenized in the event loop; a thread would cost more."""

LOCALISING = 16
"""Requests to localise that may be under way; each holds an image, and takes one thread's time."""


class Pools:
    """The threads that decode images, tokenize texts and localise, for every dictionary."""

    def __init__(self, settings: Settings) -> None:
        threads = settings.decode_threads or cores_of_worker(settings.workers)
        self.decoding = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self.tokenizing = ThreadPoolExecutor(threads, thread_name_prefix="tokenize")
        self.localising = Lane("localize", LOCALISING)

    def close(self) -> None:
        """Ends the threads; what has not begun never does."""
        for pool in (self.decoding, self.tokenizing):
            pool.shutdown(wait=False, cancel_futures=True)
        self.localising.close()


@dataclass(eq=False, slots=True)
class Task:
    """One item on its way."""

    n: int
    item: Item
    plan: Plan
    places: Places = field(default_factory=Places)
    spent: Timings = field(default_factory=Timings)

    def streams(self, source: Source) -> Sequence[str]:
        """Those that are answered from it."""
        return () if isinstance(self.plan, InputError) else self.plan.get(source, ())


class Flow:
    """The way through one dictionary's queues."""

    def __init__(
        self,
        encoder: ConceptEncoder,
        batchers: Mapping[str, Batcher[Any, Any]],
        pools: Pools,
        settings: Settings,
    ) -> None:
        self._encoder, self._batchers = encoder, batchers
        self._pools, self._settings = pools, settings

    def queues(self, task: Task) -> list[Batcher[Any, Any]]:
        """The queues that must have room for an item: one stream's load is not another's."""
        if isinstance(task.plan, InputError):
            return []
        own = [self._batchers[n] for n in (*task.streams("image"), *task.streams("text"))]
        return own or [self._batchers[HEADS]]

    async def answers(self, tasks: Sequence[Task], mode: Mode) -> dict[int, Answer]:
        """An answer for each item, by its number; their places have been taken."""
        answers: dict[int, Answer] = {t.n: t.plan for t in tasks if isinstance(t.plan, InputError)}
        alone = [task for task in tasks if task.streams("image")]
        work = [self._alone(task, mode) for task in alone]
        if together := [t for t in tasks if t.n not in answers and not t.streams("image")]:
            work.append(self._together(together, mode))
        for part in await all_of(work):
            answers |= part
        return answers

    async def _alone(self, task: Task, mode: Mode) -> dict[int, Answer]:
        """An item with an image, beside whatever else it has."""
        try:
            with _decoding(task.spent):
                acts: dict[str, Any] = self._read_activations(task)
                prepared = await self._read_image(task)
                inline = len(task.item.text or "") <= INLINE_CHARS
                prepared |= await self._read_text(task, inline=inline)
            several = [Timings() for _ in prepared]
            rows = await each_of(
                [
                    task.places.enqueue(self._batchers[name], item, spent)
                    for (name, item), spent in zip(prepared.items(), several, strict=True)
                ]
            )
            task.spent.add_slowest(several)
            acts |= dict(zip(prepared, rows, strict=True))
            heads, selection = self._batchers[HEADS], Selection(acts, mode)
            (codes,) = await each_of([task.places.enqueue(heads, selection, task.spent)])
            return {task.n: codes}
        except KoineError as error:
            return {task.n: error}
        finally:
            task.places.release()

    async def _together(self, tasks: Sequence[Task], mode: Mode) -> dict[int, Answer]:
        """Items of texts and activations."""
        spent = tasks[0].spent
        answers: dict[int, Answer] = {}
        acts: dict[int, dict[str, Any]] = {}
        tokens: dict[int, dict[str, Tokens]] = {}
        with _decoding(spent):
            inline = sum(len(task.item.text or "") for task in tasks) <= INLINE_CHARS
            reading = [self._ready(task, inline=inline) for task in tasks]
            read = [await one for one in reading] if inline else await asyncio.gather(*reading)
            for task, ready in zip(tasks, read, strict=True):
                if isinstance(ready, InputError):
                    answers[task.n] = ready
                    task.places.release()
                else:
                    acts[task.n], tokens[task.n] = ready
        left = [task for task in tasks if task.n not in answers]
        await self._embed(left, tokens, acts, answers, spent)
        left = [task for task in left if task.n not in answers]
        if left:
            heads = self._batchers[HEADS]
            heads.hold(len(left) - sum(task.places.give(heads) for task in left))
            selections = [Selection(acts[task.n], mode) for task in left]
            (rows,) = await pieces_of([heads.enqueue(selections, spent)])
            answers |= {task.n: row for task, row in zip(left, rows, strict=True)}
        return answers

    async def _embed(
        self,
        tasks: Sequence[Task],
        tokens: Mapping[int, Mapping[str, Tokens]],
        acts: dict[int, dict[str, Any]],
        answers: dict[int, Answer],
        spent: Timings,
    ) -> None:
        """Adds the activations of texts to `acts`, and of items at fault the error to `answers`."""
        streams = [name for name in self._batchers if any(name in tokens[t.n] for t in tasks)]
        those = {name: [t for t in tasks if name in tokens[t.n]] for name in streams}
        several = [Timings() for _ in streams]
        for name, own in those.items():
            assert all(task.places.give(self._batchers[name]) for task in own)
        pieces = await pieces_of(
            [
                self._batchers[name].enqueue([tokens[task.n][name] for task in those[name]], own)
                for name, own in zip(streams, several, strict=True)
            ]
        )
        spent.add_slowest(several)
        for name, rows in zip(streams, pieces, strict=True):
            for task, row in zip(those[name], rows, strict=True):
                if isinstance(row, KoineError):
                    answers[task.n] = row
                else:
                    acts[task.n][name] = row

    async def _ready(
        self, task: Task, *, inline: bool
    ) -> tuple[dict[str, Any], dict[str, Tokens]] | InputError:
        """The activations that an item brings, and its tokens."""
        try:
            return self._read_activations(task), await self._read_text(task, inline=inline)
        except InputError as error:
            return error

    def _read_activations(self, task: Task) -> dict[str, np.ndarray]:
        return {
            name: jobs.read_activations(task.item.activations[name], name, self._encoder)
            for name in task.streams("activations")
        }

    async def _read_image(self, task: Task) -> dict[str, Any]:
        assert task.item.image is not None
        settings = self._settings
        read = partial(
            jobs.read_image, max_pixels=settings.max_pixels, jpeg_shrink=settings.jpeg_shrink
        )
        return await asyncio.get_running_loop().run_in_executor(
            self._pools.decoding, read, task.item.image, task.streams("image"), self._encoder
        )

    async def _read_text(self, task: Task, *, inline: bool) -> dict[str, Tokens]:
        streams, text, limit = task.streams("text"), task.item.text, self._settings.max_text_chars
        if not streams:
            return {}
        assert text is not None
        read = partial(jobs.read_text, text, streams, self._encoder, limit)
        if inline:
            return read()
        return await asyncio.get_running_loop().run_in_executor(self._pools.tokenizing, read)


@contextmanager
def _decoding(spent: Timings) -> Generator[None]:
    """Times what makes an item ready for its queues."""
    start = time.perf_counter()
    yield
    end = time.perf_counter()
    spent.decode = end - start
    metrics.STAGE_SECONDS.labels("decode").observe(spent.decode)
    telemetry.stage("decode", start, end)
