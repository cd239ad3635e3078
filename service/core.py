"""What every transport calls: bytes, deadlines, the cache, then a dictionary's queues; no HTTP."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from koine.drift.segments import Asker, check_label
from koine.errors import AuditError, KoineError, NotReadyError, OverloadedError
from service import metrics, telemetry
from service.audit import Audit
from service.cache import CodeCache, item_key
from service.call import Call, Encoded
from service.contents import Contents, contents_of_all
from service.counting import Counting
from service.deadline import within
from service.dictionaries import Dictionaries
from service.dictionary import Dictionary
from service.drift.own import OwnDrift
from service.flow import Answer
from service.jobs import Item
from service.lame_duck import LAME_DUCK
from service.settings import Settings
from service.timings import Timings

INLINE_BYTES = 256 * 1024
"""Images up to this size together are hashed in the event loop; a thread would cost more."""


class Core:
    """One process's state, shared by its transports. `start` it in an event loop, `close` it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.inflight = ByteBudget(settings.max_inflight_bytes)
        self.cache = CodeCache.of(settings)
        self.audit = Audit.of(settings)
        self.counting = Counting.of(settings)
        self.dictionaries = Dictionaries(settings, self.audit)
        self.drift: OwnDrift | None = None
        if self.counting is not None:
            served = self.dictionaries
            self.drift = OwnDrift(settings, self.counting, self.audit, lambda: served.served)
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to load the artifacts; the service is not ready until that is done."""
        if self.cache is not None:
            await self.cache.start()
        if self.audit is not None:
            try:
                await self.audit.open()
            except AuditError as error:
                self.dictionaries.refuse(error)
                return
        if self.counting is not None:
            self.counting.start()
        if self.drift is not None:
            self.drift.start()
        self._running = asyncio.create_task(self.dictionaries.run(), name="dictionaries")

    @property
    def alive(self) -> bool:
        """Whether every loop beats; true while loading."""
        return self.dictionaries.alive

    def check_ready(self) -> None:
        """Raises `NotReadyError`, with the reason, where requests should go elsewhere."""
        if LAME_DUCK.begun:
            raise NotReadyError("the service is stopping; send requests to another instance")
        _ = self.dictionaries.served  # raises while there is none

    async def encode(self, call: Call) -> Encoded:
        """An answer for each item. Raises only what concerns the whole request."""
        options, timings = call.options, Timings()
        limit_s = self.settings.timeout_s
        timeout_s = limit_s if call.timeout_s is None else min(call.timeout_s, limit_s)
        asker = _asker()
        telemetry.note(items=len(call.items), timings=timings)
        with self.dictionaries.find(options.dictionary).in_use() as dictionary:
            telemetry.note(dictionary=dictionary.title)
            start = time.perf_counter()
            contents = await self._contents(call.items)
            try:
                async with within(timeout_s, "send fewer items, or wait longer"):
                    answers = await self._answers(dictionary, call, contents, timings, timeout_s)
            except OverloadedError:  # turned away unread, and cheaply
                raise
            except KoineError as error:
                await self._record(dictionary, call, contents, [error] * len(call.items), start)
                raise
            await self._record(dictionary, call, contents, answers, start)
            timings.total = time.perf_counter() - start
            if self.counting is not None:
                self.counting.take(dictionary.counted, options.mode, contents, answers, asker)
        counted = Counter(
            (item.modality, "error" if isinstance(answer, KoineError) else "ok")
            for item, answer in zip(call.items, answers, strict=True)
        )
        for (modality, outcome), count in counted.items():
            metrics.ITEMS.labels(modality, outcome).inc(count)
        return Encoded(dictionary, answers, timings)

    async def _record(
        self,
        dictionary: Dictionary,
        call: Call,
        contents: Sequence[Contents | None],
        answers: Sequence[Answer],
        start: float,
    ) -> None:
        if self.audit is not None:
            await self.audit.encoded(
                dictionary.digest,
                list(dictionary.encoder.streams),
                call.options.mode,
                contents,
                answers,
                time.perf_counter() - start,
            )

    async def _answers(
        self,
        dictionary: Dictionary,
        call: Call,
        contents: Sequence[Contents | None],
        timings: Timings,
        timeout_s: float,
    ) -> list[Answer]:
        """From the cache, what is there; the rest from the dictionary."""
        items, options = call.items, call.options

        async def compute(places: Sequence[int]) -> list[Answer]:
            missing = [items[place] for place in places]
            return await dictionary.encode(
                missing, options.streams, options.mode, timings, timeout_s
            )

        if self.cache is None:
            return await compute(range(len(items)))
        dictionary.check_streams(options.streams)
        digest = dictionary.encoder.artifact.digest
        keys = [item_key(each, digest, options.streams, options.mode) for each in contents]
        return await self.cache.answers(keys, compute)

    async def _contents(self, items: Sequence[Item]) -> list[Contents | None]:
        if self.cache is None and self.audit is None and self.counting is None:
            return []
        if sum(len(item.image or b"") for item in items) > INLINE_BYTES:
            return await asyncio.to_thread(contents_of_all, items)
        return contents_of_all(items)

    async def close(self) -> None:
        """Finishes what was let in, then ends every thread and task."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        await self.dictionaries.close()
        if self.cache is not None:
            await self.cache.close()
        if self.drift is not None:
            await self.drift.close()
        if self.counting is not None:
            await self.counting.close()
        if self.audit is not None:
            await self.audit.close()


def _asker() -> Asker:
    """Who sent the current request. Raises `RequestError` for a segment that is none."""
    request = telemetry.current()
    if request is None:
        return Asker()
    label = "" if request.segment is None else check_label(request.segment)
    return Asker(request.key_id or "", label)


class ByteBudget:
    """How many bytes of requests may be in memory at once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0

    @contextmanager
    def account(self) -> Generator[Account]:
        """An account for one request, settled when the request is over."""
        account = Account(self)
        try:
            yield account
        finally:
            self._held -= account.held

    def take(self, count: int) -> None:
        """Raises `OverloadedError` where they do not fit beside what is held."""
        # a request alone is bounded by its own limit, and is let in
        if self._held and self._held + count > self._most:
            raise OverloadedError(
                f"requests under way hold {self._held} of at most {self._most} bytes, "
                f"{count} more do not fit; send the request again later",
                1.0,
            )
        self._held += count


class Account:
    """What one request has taken of the budget."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self.held = 0

    def hold(self, total: int) -> None:
        """Takes what is missing to `total` bytes. Raises `OverloadedError`."""
        if total > self.held:
            self._budget.take(total - self.held)
            self.held = total
