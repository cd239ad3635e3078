"""Closed and open loops of requests, and what became of each; judges no answer.

A closed loop has so many clients that each wait for their answer. An open loop sends when
requests are due, and counts latency from that moment, so that a server that stalls is not spared
the requests it kept waiting.
"""

from __future__ import annotations

import asyncio
import itertools
import resource
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.serving.clients import Client
from benchmarks.serving.cores import CLIENT_CORE, Busy, on_core
from benchmarks.serving.figures import percentile
from benchmarks.serving.replies import Reply

LONGEST_WAIT_S = 30.0
"""An open loop waits this long for its last answers; later ones count as failed."""


class Request(NamedTuple):
    """A prepared body."""

    body: bytes
    items: int = 1
    samples: tuple[int, ...] = ()
    """Which sample each item is, where answers are judged."""


class Outcome(NamedTuple):
    """One request; seconds from the start of the run."""

    request: int
    """Which of the prepared requests."""
    due: float
    done: float
    reply: Reply

    @property
    def latency_s(self) -> float:
        """From when it was due."""
        return self.done - self.due


@dataclass
class Run:
    """All that happened within one loop."""

    requests: Sequence[Request]
    outcomes: list[Outcome] = field(default_factory=list)
    seconds: float = 0.0
    generator_share: float = 0.0
    """Of its core."""

    @property
    def good(self) -> list[Outcome]:
        """Those with results."""
        return [one for one in self.outcomes if one.reply.good]

    @property
    def goodput(self) -> float:
        """Items a second in answers that came within the run."""
        return self.items_between(0.0, self.seconds) / self.seconds

    def items_between(self, begin_s: float, end_s: float) -> int:
        """Items of good answers that arrived then."""
        within = (one for one in self.good if begin_s <= one.done < end_s)
        return sum(self.requests[one.request].items for one in within)

    def latency_s(self, percent: float) -> float:
        """A percentile over good answers."""
        return percentile([one.latency_s for one in self.good], percent)

    @property
    def failed_share(self) -> float:
        """Requests without a good answer."""
        return 1 - len(self.good) / len(self.outcomes) if self.outcomes else 1.0


def drive(make: Callable[[], Client], work: Callable[[Client], Awaitable[Run]]) -> Run:
    """Runs `work` in an event loop on the generator's core, with a client of its own."""

    async def main() -> Run:
        client = make()
        try:
            return await work(client)
        finally:
            await client.close()

    _allow_open_files()
    with on_core(CLIENT_CORE):
        return asyncio.run(main())


def _allow_open_files() -> None:
    """Every connection is a file; the usual limit of 1,024 is a shell's, not the machine's."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


Retry = Callable[[Reply], float | None]
"""Seconds to wait before a refused request is sent again; None gives it up."""


def give_up(reply: Reply) -> float | None:
    """Sends nothing again."""
    return None


def honour(reply: Reply) -> float | None:
    """Waits as long as the service asks."""
    return (reply.retry_after_s or 1.0) if reply.retryable else None


def insist(reply: Reply) -> float | None:
    """Sends again at once, whatever the service asks."""
    return 0.0 if reply.retryable else None


async def closed_loop(
    client: Client,
    requests: Sequence[Request],
    *,
    clients: int,
    seconds: float,
    think_s: float = 0.0,
    retry: Retry = give_up,
    stop: asyncio.Event | None = None,
    total: int | None = None,
) -> Run:
    """`clients` that send, wait for the answer, think, and send the next, for `seconds`.

    `stop`, or `total` requests, end it earlier. Requests under way at the end are waited for and
    kept as outcomes.
    """
    run, busy, start = Run(requests), Busy(), time.perf_counter()
    numbers, enough = itertools.count(), stop or asyncio.Event()

    def over() -> bool:
        return time.perf_counter() - start >= seconds or enough.is_set()

    async def one_client(first: int) -> None:
        if think_s:  # spread over the first thought, so that they do not march in step
            await asyncio.sleep(think_s * first / clients)
        while not over():
            if (count := next(numbers)) == total:
                enough.set()
                return
            number = count % len(requests)
            due = time.perf_counter() - start
            reply = None
            while not over():
                reply = await client.send(requests[number].body)
                now = time.perf_counter() - start
                run.outcomes.append(Outcome(number, due, now, reply))
                wait_s = None if reply.good else retry(reply)
                if wait_s is None:
                    break
                await asyncio.sleep(wait_s)
            if reply is not None and reply.fault:
                await asyncio.sleep(0.01)  # a server that is gone must not spin the generator
            if think_s:
                await asyncio.sleep(think_s)

    await asyncio.gather(*(one_client(number) for number in range(clients)))
    run.seconds = min(seconds, time.perf_counter() - start)
    run.generator_share = busy.share
    return run


async def open_loop(
    client: Client, requests: Sequence[Request], due: Sequence[float], seconds: float
) -> Run:
    """Sends each request when it is due. What is not answered `LONGEST_WAIT_S` after the end is
    a timeout."""
    run, busy, start = Run(requests, seconds=seconds), Busy(), time.perf_counter()
    waiting: set[asyncio.Task[None]] = set()

    async def one(number: int, at: float) -> None:
        reply = await client.send(requests[number].body)
        run.outcomes.append(Outcome(number, at, time.perf_counter() - start, reply))

    for count, at in enumerate(due):
        early_s = at - (time.perf_counter() - start)
        if early_s > 0:
            await asyncio.sleep(early_s)
        task = asyncio.create_task(one(count % len(requests), at))
        waiting.add(task)
        task.add_done_callback(waiting.discard)
    run.generator_share = busy.share
    if waiting:
        _, late = await asyncio.wait(waiting, timeout=LONGEST_WAIT_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        lost = len(due) - len(run.outcomes)
        end = time.perf_counter() - start
        run.outcomes += [Outcome(0, 0.0, end, Reply(0, b"", fault="timeout"))] * lost
    return run
