"""Bodies to the bytes of each transport, and its answers held against them; sends nothing.

Knows neither Locust nor gevent, so that tests may import it.
"""

from __future__ import annotations

import json
from typing import NamedTuple, Protocol

from google.protobuf.message import DecodeError

from benchmarks.serving import samples as made
from koine.proto.koine.v1 import concepts_pb2 as pb
from load_tests.bodies import Body

JSON, JPEG = "application/json", "image/jpeg"


class Message(NamedTuple):
    """A body as it is sent, and what its answer must look like."""

    data: bytes
    broken: tuple[bool, ...]
    """Of each item, whether the right answer is an error."""
    content_type: str = ""
    """Over HTTP."""


class Wire(Protocol):
    """What one transport carries."""

    def encode(self, body: Body) -> Message: ...

    def errors(self, answer: bytes) -> tuple[bool, ...]:
        """Of each result, whether it is an error. ValueError where there are no results."""
        ...


class Json:
    """`POST /v1/encode`: JSON, or an image file as it is."""

    def encode(self, body: Body) -> Message:
        """Images within JSON are base64."""
        if body.bare:
            (sample,) = body.samples
            assert sample.image is not None
            return Message(sample.image, body.broken, JPEG)
        request = made.request(body.samples, range(len(body.samples)), packed=body.packed)
        return Message(request.body, body.broken, JSON)

    def errors(self, answer: bytes) -> tuple[bool, ...]:
        """From the JSON of the answer."""
        try:
            return tuple("error" in one for one in json.loads(answer)["results"])
        except (KeyError, TypeError) as error:
            raise ValueError("no results") from error


class Proto:
    """`koine.v1.ConceptService/Encode`: the same items, images as bytes."""

    def encode(self, body: Body) -> Message:
        """A serialized `EncodeRequest`."""
        request = made.grpc_request(body.samples, range(len(body.samples)), packed=body.packed)
        return Message(request.body, body.broken)

    def errors(self, answer: bytes) -> tuple[bool, ...]:
        """From a serialized `EncodeResponse`."""
        try:
            results = pb.EncodeResponse.FromString(answer).results
        except DecodeError as error:
            raise ValueError("no EncodeResponse") from error
        return tuple(one.HasField("error") for one in results)


WIRES: dict[str, Wire] = {"http": Json(), "grpc": Proto()}


def fault(message: Message, wire: Wire, answer: bytes) -> str | None:
    """What is wrong with an answer, in a few words that are the same for the same fault."""
    try:
        errors = wire.errors(answer)
    except ValueError:
        return "an answer without results"
    if len(errors) != len(message.broken):
        return "another number of results"
    return None if errors == message.broken else "an error where codes belong, or the reverse"
