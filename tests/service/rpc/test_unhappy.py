"""What cannot be read or encoded, over gRPC: HTTP's messages, and it costs only itself."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2

from koine.artifact import Artifact
from koine.errors import NotReadyError, OverloadedError, RequestError
from koine.proto.koine.v1 import concepts_pb2 as pb
from service.core import Core
from service.rpc.status import refusal
from tests.service.inputs import b64
from tests.service.rpc.conftest import both, floats, refused, several, width


def test_a_bad_item_costs_only_itself(tiny_artifact: Artifact) -> None:
    async def run() -> None:
        async with both(tiny_artifact) as service:
            d_in = width(service, "imported")
            bad = {
                "no image": (pb.Item(image=b"no image"), "image"),
                "empty": (pb.Item(), "request"),
                "empty image": (pb.Item(image=b""), "image"),
                "long id": (pb.Item(id="x" * 257, text="a"), "request"),
                "nan": (
                    pb.Item(activations={"imported": floats([math.nan] * d_in)}),
                    "activations",
                ),
                "width": (pb.Item(activations={"imported": floats([1.0])}), "activations"),
                "stream": (pb.Item(activations={"nowhere": floats([1.0] * 12)}), "unknown-stream"),
                "none": (pb.Item(activations={"imported": pb.Activations()}), "activations"),
                "odd": (
                    pb.Item(activations={"imported": pb.Activations(raw=b"12345")}),
                    "activations",
                ),
                "both": (
                    pb.Item(activations={"imported": pb.Activations(values=[1], raw=b"1234")}),
                    "activations",
                ),
            }
            good = pb.Item(text="a dog")
            answer = await service.encode(*(item for item, _ in bad.values()), good)
            assert len(answer.results) == len(bad) + 1
            for result, (name, (_, kind)) in zip(answer.results, bad.items(), strict=False):
                assert result.error.type == f"urn:koine:error:{kind}", name
                assert result.error.title
                assert result.error.detail
                assert not result.codes
            assert "both `values` and `raw`" in answer.results[len(bad) - 1].error.detail
            assert answer.results[len(bad)].codes
            assert not answer.results[len(bad)].HasField("error")

    asyncio.run(run())


def test_item_errors_read_as_over_http(tiny_artifact: Artifact) -> None:
    async def run() -> None:
        async with both(tiny_artifact, max_text_chars=5) as service:
            for sent, json in (
                (pb.Item(), {}),
                (pb.Item(id="x" * 300, text="a"), {"id": "x" * 300, "text": "a"}),
                (pb.Item(image=b"abc"), {"image": b64(b"abc")}),
                (pb.Item(text="too long"), {"text": "too long"}),
                (
                    pb.Item(activations={"imported": floats([1.0])}),
                    {"activations": {"imported": [1.0]}},
                ),
            ):
                answer = await service.encode(sent)
                http = await service.http.post("/v1/encode", json={"inputs": [json]})
                (same,) = http.json()["results"]
                error = answer.results[0].error
                told = {"type": error.type, "title": error.title, "detail": error.detail}
                assert told == same["error"]
                assert answer.results[0].id == same["id"]

    asyncio.run(run())


def test_requests_that_cannot_be_read(tiny_artifact: Artifact) -> None:
    async def run() -> None:
        async with both(tiny_artifact, max_items=2) as service:
            text = pb.Item(text="a")
            wrong: tuple[tuple[dict[str, Any], str], ...] = (
                ({"mode": 7}, r"`mode` must be one of INDEPENDENT \(0\), JOINT \(1\), got 7"),
                ({"encoding": -1}, "`encoding` must be one of .* got -1"),
                ({"top_k": 0}, "`top_k`: .*greater than or equal to 1, got 0"),
                ({"streams": ["nowhere"]}, "'nowhere' is no stream of this dictionary"),
            )
            for fields, words in wrong:
                await refused(service.encode(text, **fields), "INVALID_ARGUMENT", words)
            await refused(service.encode(), "INVALID_ARGUMENT", "no `inputs`; send at least one")
            await refused(service.encode(text, text, text), "INVALID_ARGUMENT", "limit is 2")
            error = await refused(
                service.encode(text, dictionary="other"), "NOT_FOUND", "'other' is not served here"
            )
            trailers = dict(error.trailing_metadata())
            assert trailers["koine-error-type"] == "urn:koine:error:unknown-dictionary"
            encode = service.unary("Encode", pb.EncodeResponse)
            await refused(encode(b"\xff\xff"), "INVALID_ARGUMENT", "is no koine.v1.EncodeRequest")
            assert (await service.encode(text)).results[0].codes

    asyncio.run(run())


def test_random_bytes_never_end_in_a_fault(tiny_artifact: Artifact) -> None:
    async def run() -> None:
        rng = np.random.default_rng(0)
        whole = pb.EncodeRequest(
            inputs=[pb.Item(text="a dog"), pb.Item(activations={"imported": floats([1.0] * 12)})]
        ).SerializeToString()
        async with both(tiny_artifact) as service:
            encode = service.unary("Encode", pb.EncodeResponse)
            for _ in range(200):
                broken = bytearray(whole)
                for at in rng.integers(0, len(broken), 3):
                    broken[at] = rng.integers(0, 256)
                call = encode(bytes(broken))
                await asyncio.gather(call, return_exceptions=True)
                assert (await call.code()).name in ("OK", "INVALID_ARGUMENT", "NOT_FOUND")

    asyncio.run(run())


def test_oversize_messages_are_refused_and_the_connection_stays(tiny_artifact: Artifact) -> None:
    async def run() -> None:
        async with both(tiny_artifact, grpc_max_message_bytes=2048) as service:
            big = pb.Item(image=bytes(4096))
            await refused(service.encode(big), "RESOURCE_EXHAUSTED", "larger than max")
            assert (await service.encode(pb.Item(text="a"))).results[0].codes

    asyncio.run(run())


def test_an_unforeseen_error_tells_nothing_and_is_logged(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(core: Core, call: object) -> None:
        raise ValueError("a secret")

    async def run() -> None:
        async with both(tiny_artifact) as service:
            monkeypatch.setattr(Core, "encode", broken)
            error = await refused(service.encode(pb.Item(text="a")), "INTERNAL", "unforeseen")
            assert "secret" not in repr(error)
            request = pb.EncodeRequest(inputs=[pb.Item(text="a")], request_id="r")
            (answer,) = [one async for one in service.stream()(several(request))]
            assert answer.error.type == "urn:koine:error:internal"
            assert answer.request_id == "r"
            assert "secret" not in str(answer)

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    assert caplog.text.count("ValueError: a secret") == 2


def test_overload_says_when_to_come_back() -> None:
    code, details, trailers = refusal(OverloadedError("full", 1.25))
    told = dict(trailers)
    assert (code, details) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
    assert told["retry-after-ms"] == "1250"
    status = status_pb2.Status.FromString(told["grpc-status-details-bin"])  # type: ignore[arg-type]
    assert (status.code, status.message) == (8, "full")
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    assert info.reason == "urn:koine:error:overloaded"
    assert retry.retry_delay.ToMilliseconds() == 1250
    assert "retry-after-ms" in dict(refusal(NotReadyError("x")).trailers)
    assert "retry-after-ms" not in dict(refusal(RequestError("x")).trailers)


@pytest.mark.parametrize("letter", ["x", "é", "語"])
def test_a_long_detail_fits_into_trailers(tiny_artifact: Artifact, letter: str) -> None:
    async def run() -> None:
        async with both(tiny_artifact) as service:
            streams = [letter * 20_000]
            call = service.encode(pb.Item(text="a"), streams=streams)
            await refused(call, "INVALID_ARGUMENT", f"{letter}…")

    asyncio.run(run())
