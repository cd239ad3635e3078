"""Deadlines, cancellations, full queues, bytes in flight and access, over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import grpc
import pytest

from koine.artifact import Artifact
from koine.errors import ForbiddenError, RateLimitError, UnauthorizedError
from koine.proto.koine.v1 import concepts_pb2 as pb
from service.core import Core
from service.rpc.health import ready
from service.rpc.server import RpcServer
from service.settings import Settings
from tests.service.inputs import png
from tests.service.process import free_port
from tests.service.rpc.conftest import (
    CONCEPTS,
    Held,
    both,
    counted,
    holding,
    queue_of,
    refused,
    sample,
    several,
    until,
    waiting,
)

ROUTE = CONCEPTS + "Encode"
TEXT = pb.Item(text="a dog")


def test_a_cancelled_call_is_dropped_before_the_forward_pass(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        held = Held(monkeypatch)
        async with both(tiny_artifact) as service:
            first = await holding(service, held)
            before = sample("koine_dropped_items_total"), counted(ROUTE, "cancelled")
            leaving = asyncio.create_task(service.encode(TEXT, TEXT, TEXT))
            await until(lambda: queue_of(service)._waiting == 3)
            leaving.cancel()
            await until(lambda: counted(ROUTE, "cancelled") == before[1] + 1)
            held.go.set()
            await first
            assert (await service.encode(TEXT)).results[0].codes
            assert sample("koine_dropped_items_total") == before[0] + 3

    asyncio.run(run())


def test_storms_of_cancellations_leave_nothing_behind(tiny_artifact: Artifact) -> None:
    async def run() -> None:
        async with both(tiny_artifact) as service:
            for turn in range(5):
                calls = [
                    asyncio.create_task(service.encode(pb.Item(image=png(n)), TEXT))
                    for n in range(40)
                ]
                await asyncio.sleep(0.01 * turn)
                for call in calls[::2]:
                    call.cancel()
                answers = await asyncio.gather(*calls, return_exceptions=True)
                assert all(hasattr(answer, "results") for answer in answers[1::2])
            await until(lambda: sample("koine_inflight_requests") == 0)
            await until(lambda: waiting() == waiting("tiny_a") == waiting("tiny_b") == 0)
            assert service.core.inflight._held == 0

    asyncio.run(run())


def test_a_deadline_ends_a_call_that_waits(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        held = Held(monkeypatch)
        async with both(tiny_artifact) as service:
            first = await holding(service, held)
            before = sample("koine_deadline_missed_total")
            await refused(service.encode(TEXT, timeout=0.2), "DEADLINE_EXCEEDED", "DEADLINE")
            await until(lambda: sample("koine_deadline_missed_total") == before + 1)
            await until(lambda: sample("koine_inflight_requests") == 1)
            held.go.set()
            await first

    asyncio.run(run())


def test_the_services_own_limit_is_told(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        held = Held(monkeypatch)
        async with both(tiny_artifact, timeout_s=0.2) as service:
            held.start()
            call = service.encode(TEXT, timeout=None)
            await refused(call, "DEADLINE_EXCEEDED", "no answer within 0.2 s; send fewer items")
            held.go.set()

    asyncio.run(run())


def test_a_deadline_shorter_than_the_queue_is_refused_at_once(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        held = Held(monkeypatch)
        async with both(tiny_artifact) as service:
            first = await holding(service, held)
            queued = [asyncio.create_task(service.encode(*[TEXT] * 100)) for _ in range(2)]
            await until(lambda: waiting() == 200)
            # 200 items at the queue's first estimate of 10 ms each
            queue_of(service)._seconds_per_item = 1.0
            error = await refused(
                service.encode(TEXT, timeout=5), "RESOURCE_EXHAUSTED", "may wait 5 s"
            )
            assert int(dict(error.trailing_metadata())["retry-after-ms"]) > 1000
            held.go.set()
            await asyncio.gather(first, *queued)

    asyncio.run(run())


def test_a_full_queue_refuses_and_recovers(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        held = Held(monkeypatch)
        async with both(tiny_artifact, max_queue=4, max_items=4) as service:
            first = await holding(service, held)
            before = sample("koine_rejected_requests_total", reason="queue_full")
            second = asyncio.create_task(service.encode(*[TEXT] * 4))
            await until(lambda: waiting() == 4)
            await refused(service.encode(TEXT), "RESOURCE_EXHAUSTED", "4 of at most 4 items")
            after = sample("koine_rejected_requests_total", reason="queue_full")
            assert after == before + 1
            held.go.set()
            await asyncio.gather(first, second)
            assert (await service.encode(TEXT)).results[0].codes

    asyncio.run(run())


def test_bytes_in_flight_are_bounded(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        held = Held(monkeypatch)
        async with both(tiny_artifact, max_inflight_bytes=1024) as service:
            first = await holding(service, held)
            big = pb.Item(text="a " * 600)
            await refused(service.encode(big), "RESOURCE_EXHAUSTED", "of at most 1024 bytes")
            held.go.set()
            await first
            assert (await service.encode(big)).results[0].codes

    asyncio.run(run())


class Doorkeeper:
    """Lets in who names a key of three characters; five items are what anybody may send."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.left = 5

    def __call__(self, metadata: Sequence[tuple[str, str | bytes]], scope: str) -> Doorkeeper.Purse:
        self.asked.append(scope)
        key = dict(metadata).get("authorization")
        if key is None:
            raise UnauthorizedError("no key; send one")
        if len(key) != 3:
            raise ForbiddenError("this key may not")
        return Doorkeeper.Purse(self)

    class Purse:
        """What one caller has left."""

        def __init__(self, keeper: Doorkeeper) -> None:
            self._keeper = keeper

        def __call__(self, items: int = 0, *, requests: int = 0) -> None:
            self._keeper.left -= items
            if self._keeper.left < 0:
                raise RateLimitError("too many", 2.0)


def test_a_hook_decides_who_gets_in(tiny_artifact: Artifact) -> None:
    async def run() -> None:
        port, keeper = free_port(), Doorkeeper()
        settings = Settings(
            artifact=str(tiny_artifact.path), provider="cpu", threads=1, grpc_port=port
        )
        core = Core(settings)
        await core.start()
        await until(lambda: ready(core))
        server = RpcServer(core, authorize=keeper)
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            encode = channel.unary_unary(
                ROUTE,
                request_serializer=pb.EncodeRequest.SerializeToString,
                response_deserializer=pb.EncodeResponse.FromString,
            )
            stream = channel.stream_stream(
                CONCEPTS + "EncodeStream",
                request_serializer=pb.EncodeRequest.SerializeToString,
                response_deserializer=pb.EncodeResponse.FromString,
            )
            request = pb.EncodeRequest(inputs=[TEXT, TEXT])
            wrong, right = (("authorization", "wrong"),), (("authorization", "key"),)
            await refused(encode(request), "UNAUTHENTICATED", "no key; send one")
            await refused(encode(request, metadata=wrong), "PERMISSION_DENIED", "this key may not")
            opened = stream(several(request), metadata=wrong)
            await refused(opened.read(), "PERMISSION_DENIED", "this key may not")
            assert (await encode(request, metadata=right)).results[0].codes
            answers = [a async for a in stream(several(request, request), metadata=right)]
            assert [bool(answer.results) for answer in answers] == [True, False]
            assert answers[1].error.type == "urn:koine:error:rate-limit"
            assert answers[1].error.retry_after == 2.0
            await refused(encode(request, metadata=right), "RESOURCE_EXHAUSTED", "too many")
            assert set(keeper.asked) == {"encode"}
            open_to_all = channel.unary_unary("/grpc.health.v1.Health/Check")
            assert await open_to_all(b"")
        await server.stop()
        await core.close()

    asyncio.run(run())
