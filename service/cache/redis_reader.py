"""Looks records up in Redis, never longer than a request may wait; believes no record.

One task owns the connection. Requests leave their keys with it and wait a bounded time: a client
that goes away breaks no connection, and none is made while a request waits. When Redis fails or
stays late the task closes the way, tries again after growing pauses, and opens it when Redis
answers in time; until then requests do not ask.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, cast

from pydantic import SecretStr

from service import metrics
from service.cache.backoff import Backoff
from service.cache.redis_link import FAULTS, PATIENCE_S, connect, disconnect, name_of

IDLE_S = 2.0
"""How often Redis is asked for nothing, so that not a request finds out that it is gone."""
MAX_KEYS = 1024
"""Keys of several requests that one MGET takes."""
STRIKES = 3
"""Late answers in a row that close the way."""
_NOTHING = b"koine:codes:none"

log = logging.getLogger(__name__)


class Reply(NamedTuple):
    """What Redis has of the keys that were asked for."""

    outcome: Literal["answered", "error", "bypass"]
    """`error`: no answer in time. `bypass`: not asked."""
    records: dict[bytes, bytes]


class _LateError(Exception):
    """Redis answers, but too late for requests to wait for it."""


class _Ask(NamedTuple):
    keys: Sequence[bytes]
    reply: asyncio.Future[Reply]


class RedisReader:
    """`start` it in an event loop, `get`, `close` it."""

    def __init__(self, url: SecretStr, timeout_s: float) -> None:
        self._client = connect(url)
        self._timeout_s = timeout_s
        self._asks: deque[_Ask] = deque()
        self._wake = asyncio.Event()
        self._backoff = Backoff()
        self._strikes = 0
        self._sent_s: float | None = None
        self._loop: asyncio.Task[None] | None = None
        self._told = False
        self.up = False
        """Whether requests ask Redis."""

    def start(self) -> None:
        """Begins to connect; until that is done requests do not ask."""
        metrics.DEPENDENCY_UP.labels("redis").set(0)
        self._loop = asyncio.create_task(self._run(), name="redis-reader")

    async def get(self, keys: Sequence[bytes]) -> Reply:
        """What Redis has of `keys`, unchecked; never waits longer than the time limit."""
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        overdue = self._sent_s is not None and start_s - self._sent_s > self._timeout_s
        if not self.up or overdue:
            return Reply("bypass", {})
        ask = _Ask(keys, loop.create_future())
        self._asks.append(ask)
        self._wake.set()
        try:
            await asyncio.wait({ask.reply}, timeout=self._timeout_s)
            return ask.reply.result() if ask.reply.done() else Reply("error", {})
        finally:
            ask.reply.cancel()  # where nobody waits any more it need not be sent
            metrics.CACHE_SECONDS.labels("get").observe(loop.time() - start_s)

    async def _run(self) -> None:
        while True:
            try:
                await self._open()
                while True:
                    await self._serve()
            except (*FAULTS, _LateError) as error:
                self._shut(f"{type(error).__name__}: {error}")
            except Exception:  # the edge of a task that nobody awaits: it must go on
                log.exception("reading from Redis failed")
                self._shut("a fault of this service")
            await disconnect(self._client)
            await asyncio.sleep(self._backoff.next_s())

    async def _open(self) -> None:
        """Connects at leisure, then tries what requests will do. Raises what closes the way."""
        async with asyncio.timeout(PATIENCE_S):
            await cast(Any, self._client).ping()
        self._strikes = 0
        await self._exchange([])
        self._refuse_late(1)  # stricter than for requests: one that is late stays closed
        self._told, self.up = False, True
        metrics.DEPENDENCY_UP.labels("redis").set(1)
        log.info("Redis answers; codes are shared through it")

    def _shut(self, why: str) -> None:
        self.up, self._sent_s = False, None
        metrics.DEPENDENCY_UP.labels("redis").set(0)
        while self._asks:
            _answer(self._asks.popleft(), Reply("error", {}))
        if not self._told:
            log.warning("Redis does not answer (%s); items are encoded until it does", why)
        self._told = True

    async def _serve(self) -> None:
        asks = await self._next_asks()
        try:
            found = await self._exchange([key for ask in asks for key in ask.keys])
        except BaseException:
            for ask in asks:
                _answer(ask, Reply("error", {}))
            raise
        for ask in asks:
            records = {key: found[key] for key in ask.keys if key in found}
            _answer(ask, Reply("answered", records))
        self._refuse_late(STRIKES)
        if not self._strikes:
            self._backoff.reset()

    def _refuse_late(self, strikes: int) -> None:
        if self._strikes >= strikes:
            raise _LateError(f"{strikes} answers in a row took over {self._timeout_s:.3g} s")

    async def _next_asks(self) -> list[_Ask]:
        """Every request that waits, as far as they fit; none after a while without any."""
        self._wake.clear()
        if not self._asks:
            try:
                async with asyncio.timeout(IDLE_S):
                    await self._wake.wait()
            except TimeoutError:
                return []
        asks: list[_Ask] = []
        count = 0
        while self._asks and (not asks or count + len(self._asks[0].keys) <= MAX_KEYS):
            ask = self._asks.popleft()
            if not ask.reply.done():
                asks.append(ask)
                count += len(ask.keys)
        return asks

    async def _exchange(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """One MGET. Raises one of `FAULTS`; counts late answers."""
        loop = asyncio.get_running_loop()
        self._sent_s = loop.time()
        try:
            async with asyncio.timeout(PATIENCE_S):
                names = [name_of(key) for key in keys]
                values = cast(list[Any], await cast(Any, self._client).mget(names or [_NOTHING]))
            late = loop.time() - self._sent_s > self._timeout_s
        finally:
            self._sent_s = None
        self._strikes = self._strikes + 1 if late else 0
        pairs = zip(keys, values, strict=False)  # with no keys there is one value, of `_NOTHING`
        return {key: value for key, value in pairs if isinstance(value, bytes)}

    async def close(self) -> None:
        """Ends the task and the connection; requests are answered without Redis from now on."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        self.up = False
        while self._asks:
            _answer(self._asks.popleft(), Reply("error", {}))
        await disconnect(self._client)


def _answer(ask: _Ask, reply: Reply) -> None:
    if not ask.reply.done():
        ask.reply.set_result(reply)
