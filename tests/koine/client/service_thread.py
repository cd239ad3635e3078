"""A real service over the tiny artifact in a thread of this process: HTTP by uvicorn, gRPC."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import grpc
import numpy as np
import uvicorn
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from pydantic import ValidationError

from koine.artifact import Artifact
from koine.errors import KoineError, OverloadedError, RequestError
from koine.proto.koine.v1 import concepts_pb2 as pb
from koine.proto.koine.v1 import concepts_pb2_grpc
from service.answers import strongest
from service.call import Call
from service.core import Core
from service.errors import STATUS, error_type, item_error
from service.jobs import Item
from service.routes import create_app
from service.schemas import Options
from service.settings import Settings
from tests.service.process import free_port


class Served(NamedTuple):
    """Where a service listens, and its inside."""

    http: str
    grpc: str
    core: Core


@contextmanager
def serving(artifact: Artifact, **settings: Any) -> Iterator[Served]:
    """A ready service with these settings, stopped at the end."""
    app = create_app(Settings(artifact=str(artifact.path), provider="cpu", threads=1, **settings))
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, ws="none"))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(server.serve()))
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while not _ready(app):
            assert thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with grpc_server(app.state.core, loop) as address:
            yield Served(f"http://127.0.0.1:{port}", address, app.state.core)
    finally:
        server.should_exit = True
        thread.join(60)
        loop.close()


def _ready(app: Any) -> bool:
    try:
        return bool(app.state.core.dictionaries.served)
    except (AttributeError, KoineError):
        return False


@contextmanager
def grpc_server(core: Core, loop: asyncio.AbstractEventLoop) -> Iterator[str]:
    """`koine.v1.ConceptService` over the same core: a stand-in for the service's own server."""
    server = grpc.server(ThreadPoolExecutor(16))
    concepts_pb2_grpc.add_ConceptServiceServicer_to_server(_Concepts(core, loop), server)
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


class _Concepts(concepts_pb2_grpc.ConceptServiceServicer):
    def __init__(self, core: Core, loop: asyncio.AbstractEventLoop) -> None:
        self._core, self._loop = core, loop

    def Encode(self, request: Any, context: Any) -> Any:
        try:
            return self._encoded(request, context.time_remaining())
        except KoineError as error:
            trailers = [("koine-error-type", error_type(error))]
            if isinstance(error, OverloadedError):
                trailers.append(("retry-after-ms", str(int(error.retry_after_s * 1000) + 1)))
            context.set_trailing_metadata(trailers)
            context.abort(getattr(grpc.StatusCode, STATUS[type(error)].grpc), str(error))

    def _encoded(self, request: Any, timeout_s: float | None) -> Any:
        options = _options(request)
        call = Call(
            items=[_item(n, item) for n, item in enumerate(request.inputs)],
            options=options,
            timeout_s=timeout_s,
        )
        encoded = asyncio.run_coroutine_threadsafe(self._core.encode(call), self._loop).result()
        response = pb.EncodeResponse(dictionary=encoded.dictionary.title)
        for item, answer in zip(call.items, encoded.answers, strict=True):
            result = response.results.add(id=item.id)
            if isinstance(answer, KoineError):
                result.error.CopyFrom(_error(answer))
                continue
            for name, row in answer.items():
                active_K = (kept := strongest(row, options.top_k)).indices_K >= 0
                result.codes[name].indices.extend(kept.indices_K[active_K].tolist())
                result.codes[name].values.extend(kept.values_K[active_K].tolist())
                result.codes[name].fvu = kept.fvu
                if options.names:
                    labels = encoded.dictionary.labels
                    for concept in kept.active_K.tolist():
                        result.codes[name].names.add(label=labels.get(concept))
        response.timings.total = encoded.timings.total * 1000
        return response


def _error(error: KoineError) -> pb.Error:
    told = item_error(error)
    return pb.Error(type=told["type"], title=told["title"], detail=told["detail"])


def _options(request: Any) -> Options:
    try:
        return Options(
            streams=list(request.streams) or None,
            mode="joint" if request.mode == pb.JOINT else "independent",
            top_k=request.top_k if request.HasField("top_k") else None,
            names=request.names,
            dictionary=request.dictionary if request.HasField("dictionary") else None,
        )
    except ValidationError as error:
        raise RequestError(str(error)) from None


def _item(n: int, item: Any) -> Item:
    return Item(
        id=item.id if item.HasField("id") else str(n),
        image=item.image if item.HasField("image") else None,
        text=item.text if item.HasField("text") else None,
        activations={
            name: np.frombuffer(acts.raw, "<f4").astype(np.float64)
            for name, acts in item.activations.items()
        },
    )
