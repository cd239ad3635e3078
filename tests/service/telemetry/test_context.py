"""Request ids, and what a request knows of itself; whatever its client sends."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import telemetry
from service.telemetry import RequestContext
from service.telemetry.context import Headers, Metadata, request_id
from service.timings import Timings

MADE = re.compile(r"[0-9a-f]{32}")
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@contextmanager
def begun(*metadata: tuple[str, str]) -> Iterator[RequestContext]:
    """A gRPC request, which is finished at the end."""
    request = telemetry.begin("grpc", "koine.v1.ConceptService/Encode", metadata)
    try:
        yield request
    finally:
        telemetry.finish(request, status="OK", outcome="ok")


@pytest.mark.parametrize("sane", ["a", "A-1_b.C", "0" * 128])
def test_sane_ids_are_kept(sane: str) -> None:
    with begun(("x-request-id", sane)) as request:
        assert request.id == sane
        assert telemetry.instance_uri() == f"urn:koine:request:{sane}"


@pytest.mark.parametrize(
    "garbage", ["", "0" * 129, "a b", "a\nb", "a\n", "é", '"', "a/b", "%0a", "\x00", "a\u2028"]
)
def test_others_are_replaced(garbage: str) -> None:
    with begun(("x-request-id", garbage)) as request:
        assert MADE.fullmatch(request.id)


def test_two_ids_are_none() -> None:
    with begun(("x-request-id", "a"), ("x-request-id", "b")) as request:
        assert MADE.fullmatch(request.id)


@given(st.text())
def test_an_id_is_always_sane(sent: str) -> None:
    kept = request_id(sent)
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", kept)
    assert kept == sent or MADE.fullmatch(kept)


@given(st.lists(st.tuples(st.binary(), st.binary())))
def test_headers_of_any_bytes_are_read(metadata: list[tuple[bytes, bytes]]) -> None:
    Headers(metadata)


def test_bytes_and_text_are_the_same_to_headers() -> None:
    given: list[Metadata] = [
        [("x-request-id", "a"), ("traceparent", TRACEPARENT)],
        [(b"x-request-id", b"a"), (b"traceparent", TRACEPARENT.encode())],
    ]
    for metadata in given:
        headers = Headers(metadata)
        assert (headers.request_id, headers.traceparent) == ("a", TRACEPARENT)


def test_what_is_noted_in_a_task_is_the_requests() -> None:
    async def work() -> None:
        telemetry.note(items=3, dictionary="a@1", key="ops", timings=Timings(read=1))

    async def main() -> None:
        with begun() as request:
            await asyncio.create_task(work())
            assert (request.items, request.dictionary, request.key) == (3, "a@1", "ops")
            assert request.timings is not None
            assert request.timings.read == 1
            telemetry.note(dictionary="b@1")
            assert (request.items, request.dictionary) == (3, "b@1")

    asyncio.run(main())


def test_outside_of_a_request_nothing_happens() -> None:
    assert telemetry.current() is None
    assert telemetry.instance_uri() is None
    telemetry.note(items=1)
    telemetry.stage("read", 0, 1)
    telemetry.forward_pass("queue", 1, [(None, 0.0)], 0, 1)


def test_a_request_ends_where_it_began() -> None:
    with begun() as outer:
        with begun() as inner:
            assert telemetry.current() is inner
        assert telemetry.current() is outer
    assert telemetry.current() is None


def test_a_request_may_be_finished_in_another_context() -> None:
    async def main() -> None:
        request = await asyncio.create_task(_begin())
        telemetry.finish(request, status="CANCELLED", outcome="cancelled")

    async def _begin() -> RequestContext:
        return telemetry.begin("grpc", "x/Y", [])

    asyncio.run(main())


def test_without_traces_the_clients_trace_id_is_told() -> None:
    with begun(("traceparent", TRACEPARENT)) as request:
        assert request.trace_id == "0af7651916cd43dd8448eb211c80319c"
        assert request.span_id is None
        assert request.trace is None
    zeros = f"00-{'0' * 32}-b7ad6b7169203331-01"
    for bad in ("", "00", zeros, TRACEPARENT.upper(), TRACEPARENT.replace("00-", "ff-", 1)):
        with begun(("traceparent", bad)) as request:
            assert request.trace_id is None, bad
