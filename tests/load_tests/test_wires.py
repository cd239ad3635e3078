"""What each transport carries, how its answers are judged, and that the service agrees."""

from __future__ import annotations

import base64
import json
import urllib.request
from pathlib import Path

import grpc
import numpy as np
import pytest

from benchmarks.serving import samples as made
from benchmarks.serving.clients import ENCODE
from koine.proto.koine.v1 import concepts_pb2 as pb
from load_tests import bodies
from load_tests.bodies import SCENARIOS, Body, Served
from load_tests.wires import JPEG, WIRES, Message, fault
from tests.load_tests.conftest import Running

TWO = Message(b"", (False, True))
"""The second item is broken."""
CODES, ERROR = pb.EncodedItem(id="0"), pb.EncodedItem(id="1", error=pb.Error(type="x"))
REVERSED = "an error where codes belong, or the reverse"


def one_of_each(picture: bytes) -> Body:
    return Body((made.Sample(image=picture, text="a cat"), made.Sample(text="", broken=True)))


def proto_of(message: Message) -> pb.EncodeRequest:
    return pb.EncodeRequest.FromString(message.data)


def test_both_carry_the_same_items() -> None:
    body = one_of_each(b"\xff\xd8")
    by_json, by_proto = (WIRES[name].encode(body) for name in ("http", "grpc"))
    first, second = json.loads(by_json.data)["inputs"]
    assert base64.b64decode(first["image"]) == b"\xff\xd8"
    assert (first["text"], second["text"]) == ("a cat", "")
    inputs = proto_of(by_proto).inputs
    assert [one.image for one in inputs] == [b"\xff\xd8", b""]
    assert [one.HasField("image") for one in inputs] == [True, False]
    assert [one.text for one in inputs] == ["a cat", ""]
    assert by_json.broken == by_proto.broken == (False, True)


def test_photos_travel_as_their_bytes() -> None:
    body = Body((made.Sample(image=b"\xff\xd8"),), bare=True)
    assert WIRES["http"].encode(body) == Message(b"\xff\xd8", (False,), JPEG)
    assert [one.image for one in proto_of(WIRES["grpc"].encode(body)).inputs] == [b"\xff\xd8"]


def test_activations_travel_whole_and_their_answers_packed() -> None:
    body = Body(tuple(made.activations(2, {"a": 5})), packed=True)
    assert json.loads(WIRES["http"].encode(body).data)["encoding"] == "packed"
    request = proto_of(WIRES["grpc"].encode(body))
    assert request.encoding == pb.PACKED
    for sample, item in zip(body.samples, request.inputs, strict=True):
        sent_D = np.frombuffer(item.activations["a"].raw, "<f4")
        assert np.array_equal(sent_D, sample.activations["a"])


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"results": [{"codes": {}}, {"error": {}}]}, None),
        ({"results": [{"codes": {}}]}, "another number of results"),
        ({"results": [{"codes": {}}, {"codes": {}}]}, REVERSED),
        ({"results": [{"error": {}}, {"error": {}}]}, REVERSED),
        ({}, "an answer without results"),
        ([], "an answer without results"),
    ],
)
def test_answers_of_http_are_held_against_what_was_sent(
    answer: object, expected: str | None
) -> None:
    assert fault(TWO, WIRES["http"], json.dumps(answer).encode()) == expected


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([CODES, ERROR], None),
        ([CODES], "another number of results"),
        ([], "another number of results"),
        ([CODES, CODES], REVERSED),
        ([ERROR, ERROR], REVERSED),
        ([ERROR, CODES], REVERSED),
    ],
)
def test_answers_of_grpc_are_held_against_what_was_sent(
    results: list[pb.EncodedItem], expected: str | None
) -> None:
    answer = pb.EncodeResponse(results=results).SerializeToString()
    assert fault(TWO, WIRES["grpc"], answer) == expected


@pytest.mark.parametrize("transport", WIRES)
def test_an_answer_that_was_cut_is_a_fault(transport: str) -> None:
    whole = {
        "http": b'{"results": [{"codes": {}}, {"error": {}}]}',
        "grpc": pb.EncodeResponse(results=[CODES, ERROR]).SerializeToString(),
    }[transport]
    assert fault(TWO, WIRES[transport], whole) is None
    assert fault(TWO, WIRES[transport], whole[:-1]) == "an answer without results"


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_service_answers_both_rightly(
    scenario: str, running: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bodies, "PHOTOS", tmp_path)
    monkeypatch.setattr("benchmarks.serving.photos.LARGEST_BYTES", 110_000)
    monkeypatch.setattr(bodies, "BROKEN_SHARE", 0.3)
    served = Served.of(json.loads(running.server.get("/v1/info")))
    with grpc.insecure_channel(running.service.grpc_target) as channel:
        call = channel.unary_unary(ENCODE)
        for body in SCENARIOS[scenario].make(served, 4, 0, 2):
            message = WIRES["http"].encode(body)
            request = urllib.request.Request(
                f"{running.service.host}/v1/encode",
                message.data,
                {"Content-Type": message.content_type},
            )
            with urllib.request.urlopen(request, timeout=60) as answer:
                assert fault(message, WIRES["http"], answer.read()) is None
            message = WIRES["grpc"].encode(body)
            assert fault(message, WIRES["grpc"], call(message.data, timeout=60)) is None
