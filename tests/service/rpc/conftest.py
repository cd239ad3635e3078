"""A gRPC server on loopback in the test's own event loop, with the HTTP app on the same core."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import grpc
import httpx
import numpy as np
import pytest
from prometheus_client import REGISTRY

from koine.artifact import Artifact
from koine.encoder import ConceptEncoder
from koine.proto.koine.v1 import concepts_pb2 as pb
from service.batcher import Batcher
from service.core import Core
from service.routes import create_app
from service.rpc.health import ready
from service.settings import Settings
from tests.service.process import free_port

CONCEPTS = "/koine.v1.ConceptService/"
MODELS = "/inference.GRPCInferenceService/"


class Both(NamedTuple):
    """One service over both transports."""

    core: Core
    http: httpx.AsyncClient
    channel: grpc.aio.Channel
    port: int

    async def encode(self, *items: pb.Item, timeout: float | None = 30, **fields: Any) -> Any:
        """The answer of `Encode`."""
        request = pb.EncodeRequest(inputs=items, **fields)
        return await self.unary("Encode", pb.EncodeResponse)(request, timeout=timeout)

    def unary(self, name: str, response: Any, service: str = CONCEPTS) -> Any:
        """A method, taking messages or bytes."""
        return self.channel.unary_unary(
            service + name, request_serializer=as_bytes, response_deserializer=response.FromString
        )

    def stream(self, name: str = "EncodeStream", response: Any = pb.EncodeResponse) -> Any:
        """A method of streams."""
        service = CONCEPTS if name == "EncodeStream" else MODELS
        return self.channel.stream_stream(
            service + name, request_serializer=as_bytes, response_deserializer=response.FromString
        )


def as_bytes(message: Any) -> bytes:
    """A message's wire form; bytes are sent as they are."""
    return message if isinstance(message, bytes) else message.SerializeToString()


@asynccontextmanager
async def both(
    artifact: Artifact | None, *, wait: bool = True, **settings: Any
) -> AsyncIterator[Both]:
    """A ready service; `wait=False`: one that still loads."""
    path = str(artifact.path) if artifact is not None else "/nowhere"
    defaults: dict[str, Any] = {
        "grpc_port": free_port(), "provider": "cpu", "threads": 1, "cache_bytes": 0
    }  # fmt: skip
    app = create_app(Settings(artifact=path, **(defaults | settings)))
    async with app.router.lifespan_context(app):
        core = app.state.core
        port = core.settings.grpc_port
        if wait:
            await until(lambda: ready(core))
        transport = httpx.ASGITransport(app=app)
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://koine") as http,
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            yield Both(core, http, channel, port)


async def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Returns when the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.01)


def sample(name: str, **labels: str) -> float:
    """A metric's value now."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def several(*requests: Any) -> AsyncIterator[Any]:
    """A client's half of a stream."""
    for request in requests:
        yield request


def floats(values: Any, *, raw: bool = False) -> pb.Activations:
    """Activations as numbers, or the same as bytes."""
    if raw:
        return pb.Activations(raw=np.asarray(values, "<f4").tobytes())
    return pb.Activations(values=np.asarray(values).tolist())


def codes_of(item: pb.EncodedItem) -> dict[str, Any]:
    """As HTTP's JSON has them."""
    return {
        name: (list(codes.indices), list(codes.values), codes.fvu)
        for name, codes in item.codes.items()
    }


def json_codes_of(result: dict[str, Any]) -> dict[str, Any]:
    """The same of an answer over HTTP; its numbers name each float32."""
    return {
        name: (
            codes["indices"],
            np.array(codes["values"], np.float32).tolist(),
            float(np.float32(codes["fvu"])),
        )
        for name, codes in result["codes"].items()
    }


async def refused(call: Any, code: str, words: str = ".") -> grpc.aio.AioRpcError:
    """The call's error, which has this code and these words."""
    with pytest.raises(grpc.aio.AioRpcError, match=words) as caught:
        await call
    assert caught.value.code().name in code.split("|")
    return caught.value


def width(service: Both, stream: str) -> int:
    """How many activations the stream takes."""
    return service.core.dictionaries.find().encoder.streams[stream].d_in


class Held:
    """Holds every backbone pass from `start` until told to go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = threading.Event()
        real = ConceptEncoder.activations

        def held(encoder: ConceptEncoder, stream: str, batch: Any) -> Any:
            assert self.go.wait(30)
            return real(encoder, stream, batch)

        self.start = lambda: monkeypatch.setattr(ConceptEncoder, "activations", held)


async def holding(service: Both, held: Held) -> asyncio.Task[Any]:
    """A request that is in the forward pass, and stays there."""
    held.start()
    queue = queue_of(service)
    first = asyncio.create_task(service.encode(pb.Item(text="held")))
    await until(lambda: queue._running)
    return first


def queue_of(service: Both, stream: str = "tiny_text") -> Batcher[Any, Any]:
    """A stream's queue."""
    return service.core.dictionaries.find()._batchers[stream]


def waiting(stream: str = "tiny_text") -> float:
    """Items in a stream's queue."""
    return sample("koine_queue_items", queue=stream)


def counted(route: str, outcome: str) -> float:
    """Requests that ended so."""
    return sample("koine_requests_total", route=route, outcome=outcome)
