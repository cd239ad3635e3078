"""`EncodeStream`: order, overlap up to a window, errors in their place, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from koine.artifact import Artifact
from koine.errors import NotReadyError
from koine.proto.koine.v1 import concepts_pb2 as pb
from service.rpc.edge import WINDOW
from service.rpc.overlap import overlapping
from tests.service.inputs import png
from tests.service.rpc.conftest import (
    CONCEPTS,
    Held,
    both,
    counted,
    holding,
    queue_of,
    sample,
    several,
    until,
)

ROUTE = CONCEPTS + "EncodeStream"


def text(request_id: str, words: str = "a dog") -> pb.EncodeRequest:
    """A request of one text."""
    return pb.EncodeRequest(request_id=request_id, inputs=[pb.Item(text=words)])


def test_answers_come_in_order_whatever_takes_longest() -> None:
    done: list[int] = []

    async def answer(n: int) -> int:
        await asyncio.sleep(0.05 if n % 4 == 0 else 0)
        done.append(n)
        return n

    async def run() -> None:
        answers = overlapping(several(*range(20)), answer, 4, asyncio.Event())
        assert [n async for n in answers] == list(range(20))
        assert sorted(done) == list(range(20)) != done  # they did overlap

    asyncio.run(run())


def test_no_more_is_read_than_the_window() -> None:
    read = 0

    async def requests() -> AsyncIterator[int]:
        nonlocal read
        while True:
            read += 1
            yield read

    async def answer(n: int) -> int:
        return n

    async def run() -> None:
        answers = overlapping(requests(), answer, 8, asyncio.Event())
        for taken in range(1, 4):
            assert await anext(answers) == taken
            for _ in range(100):  # a client that takes nothing for a while
                await asyncio.sleep(0)
            assert read <= taken + 8
        await answers.aclose()

    asyncio.run(run())


def test_closing_cancels_what_is_under_way() -> None:
    cancelled: list[int] = []

    async def answer(n: int) -> int:
        try:
            await asyncio.sleep(0 if n == 0 else 60)
        except asyncio.CancelledError:
            cancelled.append(n)
            raise
        return n

    async def run() -> None:
        answers = overlapping(several(*range(9)), answer, 4, asyncio.Event())
        assert await anext(answers) == 0
        await asyncio.sleep(0.01)
        await answers.aclose()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())
    assert set(cancelled) <= {1, 2, 3}


def test_stopping_answers_what_was_read_then_says_so() -> None:
    async def endless() -> AsyncIterator[int]:
        yield 0
        yield 1
        await asyncio.sleep(60)

    async def run() -> None:
        stopping, go = asyncio.Event(), asyncio.Event()

        async def answer(n: int) -> int:
            await go.wait()
            return n

        answers = overlapping(endless(), answer, 4, stopping)
        first = asyncio.ensure_future(anext(answers))
        await asyncio.sleep(0.01)
        stopping.set()
        await asyncio.sleep(0.01)
        go.set()
        assert [await first, await anext(answers)] == [0, 1]
        with pytest.raises(NotReadyError, match="another instance"):
            await anext(answers)

    asyncio.run(run())


def test_a_bad_request_stands_in_its_answer_and_the_stream_goes_on(tiny_artifact: Artifact) -> None:
    async def run() -> None:
        bad = text("bad")
        bad.streams.append("nowhere")
        sent = [text("0"), bad, b"\xff", pb.EncodeRequest(request_id="empty"), text("4")]
        before = {outcome: counted(ROUTE, outcome) for outcome in ("ok", "client_error")}
        async with both(tiny_artifact) as service:
            answers = [answer async for answer in service.stream()(several(*sent))]
            assert [a.request_id for a in answers] == ["0", "bad", "", "empty", "4"]
            kinds = [a.error.type.rpartition(":")[2] for a in answers]
            assert kinds == ["", "unknown-stream", "request", "request", ""]
            assert answers[4].results[0].codes
            assert answers[4].timings.total > 0
        assert counted(ROUTE, "ok") - before["ok"] == 2
        assert counted(ROUTE, "client_error") - before["client_error"] == 3

    asyncio.run(run())


def test_half_close_drains(tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        held = Held(monkeypatch)
        async with both(tiny_artifact) as service:
            held.start()
            call = service.stream()()
            for n in range(5):
                await call.write(text(str(n)))
            await call.done_writing()
            await until(lambda: sample("koine_inflight_requests") >= 5)
            held.go.set()
            assert [answer.request_id async for answer in call] == list("01234")
            assert await call.code() == grpc.StatusCode.OK

    asyncio.run(run())


def test_one_stream_overlaps_up_to_the_window(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        held = Held(monkeypatch)
        async with both(tiny_artifact) as service:
            held.start()
            requests = [text(str(n)) for n in range(3 * WINDOW)]
            call = service.stream()(several(*requests))
            await until(lambda: sample("koine_inflight_requests") == WINDOW)
            await asyncio.sleep(0.1)
            assert sample("koine_inflight_requests") == WINDOW
            held.go.set()
            answers = [answer.request_id async for answer in call]
            assert answers == [request.request_id for request in requests]

    asyncio.run(run())


def test_a_client_that_leaves_a_stream_frees_its_places(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        held = Held(monkeypatch)
        async with both(tiny_artifact) as service:
            first = await holding(service, held)
            before = counted(ROUTE, "cancelled"), sample("koine_dropped_items_total")
            call = service.stream()(several(*(text(str(n)) for n in range(4))))
            await until(lambda: queue_of(service)._waiting == 4)
            call.cancel()
            await until(lambda: counted(ROUTE, "cancelled") - before[0] == 4)
            assert sample("koine_inflight_requests") == 1
            held.go.set()
            await first
            assert (await service.encode(pb.Item(text="a"))).results[0].codes
            assert sample("koine_dropped_items_total") == before[1] + 4

    asyncio.run(run())


def test_many_streams_of_images_and_texts_at_once(tiny_artifact: Artifact) -> None:
    async def run() -> None:
        async with both(tiny_artifact) as service:

            async def one(n: int) -> None:
                sent = [
                    pb.EncodeRequest(request_id=f"{n}-{m}", inputs=[pb.Item(image=png(m))])
                    if m % 2
                    else text(f"{n}-{m}")
                    for m in range(12)
                ]
                answers = [answer async for answer in service.stream()(several(*sent))]
                assert [a.request_id for a in answers] == [r.request_id for r in sent]
                assert all(a.results[0].codes for a in answers)

            await asyncio.gather(*(one(n) for n in range(16)))

    asyncio.run(run())
