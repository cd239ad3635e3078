"""Closed and open loops, on clients whose answers are made up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from benchmarks.serving.ceiling import ceiling
from benchmarks.serving.load import (
    Outcome,
    Request,
    Run,
    closed_loop,
    give_up,
    honour,
    insist,
    open_loop,
)
from benchmarks.serving.openloop import keeps
from benchmarks.serving.replies import Reply

GOOD = Reply(200, b"")
REFUSED = Reply(429, b"", retry_after_s=0.25, problem=True)


class Scripted:
    """Answers the nth request as `answer(n)` says, after `delay_s`."""

    def __init__(self, answer: Callable[[int], Reply], delay_s: float = 0.0) -> None:
        self._answer, self._delay_s = answer, delay_s
        self.sent: list[bytes] = []

    async def send(self, body: bytes) -> Reply:
        self.sent.append(body)
        number = len(self.sent) - 1
        await asyncio.sleep(self._delay_s)
        return self._answer(number)

    async def close(self) -> None:
        """Nothing is open."""


def test_a_closed_loop_sends_each_request_once_where_a_total_is_given() -> None:
    client = Scripted(lambda _: GOOD)
    requests = [Request(b"%d" % n, items=n) for n in range(20)]
    run = asyncio.run(closed_loop(client, requests, clients=3, seconds=60, total=20))
    assert sorted(client.sent) == sorted(one.body for one in requests)
    assert sum(requests[one.request].items for one in run.good) == 190
    assert run.seconds < 60


def test_what_comes_after_the_end_is_no_goodput() -> None:
    client = Scripted(lambda _: GOOD, delay_s=0.2)
    run = asyncio.run(closed_loop(client, [Request(b"", 5)], clients=4, seconds=0.1))
    assert len(run.good) == 4, "waited for and kept"
    assert run.goodput == 0


@pytest.mark.parametrize(("retry", "sent"), [(give_up, 1), (honour, 3), (insist, 3)])
def test_refused_requests_are_sent_again_as_the_client_sees_fit(
    retry: Callable[[Reply], float | None], sent: int
) -> None:
    client = Scripted(lambda number: GOOD if number == 2 else REFUSED)
    requests = [Request(b"%d" % n) for n in range(9)]
    begun = time.perf_counter()
    stop = asyncio.Event()
    work = closed_loop(client, requests, clients=1, seconds=30, retry=retry, stop=stop)

    async def main() -> Run:
        task = asyncio.create_task(work)
        while len(client.sent) <= sent:
            await asyncio.sleep(0)
        stop.set()
        return await task

    asyncio.run(main())
    assert client.sent[: sent + 1] == [b"0"] * sent + [b"1"]
    if retry is honour:
        assert time.perf_counter() - begun >= 2 * 0.25


def test_only_what_may_be_sent_again_is() -> None:
    broken = Reply(400, b"", problem=True)
    assert honour(broken) is insist(broken) is None
    assert honour(Reply(0, b"", fault="reset")) is None


def test_an_open_loop_counts_latency_from_when_requests_were_due() -> None:
    class Stalled(Scripted):
        """Blocks the loop on its first request, as a stalled machine does."""

        async def send(self, body: bytes) -> Reply:
            if not self.sent:
                time.sleep(0.3)
            return await super().send(body)

    due = [0.0, 0.1, 0.2]
    run = asyncio.run(open_loop(Stalled(lambda _: GOOD), [Request(b"")], due, seconds=0.4))
    latencies = sorted(one.latency_s for one in run.good)
    assert len(latencies) == 3
    assert latencies[0] >= 0.1 - 0.01, "due at 0.2, not sent before 0.3"
    assert latencies[2] >= 0.3


def test_what_is_never_answered_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.serving.load.LONGEST_WAIT_S", 0.05)
    client = Scripted(lambda _: GOOD, delay_s=60)
    run = asyncio.run(open_loop(client, [Request(b"")], [0.0, 0.01], seconds=0.05))
    assert [one.reply.fault for one in run.outcomes] == ["timeout", "timeout"]
    assert run.failed_share == 1


def test_a_rate_passes_by_its_p99_and_its_failures() -> None:
    def run(latencies: list[float], failures: int = 0) -> Run:
        good = [Outcome(0, 0.0, latency, GOOD) for latency in latencies]
        return Run([Request(b"")], [*good, *[Outcome(0, 0.0, 0.0, REFUSED)] * failures], 1.0)

    assert keeps(run([0.1] * 99 + [9.0]), 0.1)
    assert not keeps(run([0.1] * 98 + [9.0] * 2), 0.1)
    assert not keeps(run([0.1] * 100, failures=1), 0.1)
    assert keeps(run([0.1] * 2000, failures=1), 0.1)
    assert not keeps(run([]), 0.1)


def test_the_generator_has_a_ceiling() -> None:
    run = ceiling(1000, clients=4, seconds=0.5)
    assert run.failed_share == 0
    assert run.goodput > 0
    assert 0 < run.generator_share <= 1.5
