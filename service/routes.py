"""The HTTP endpoints as one Starlette app; every answer that is no success is problem+json."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from functools import partial
from importlib.metadata import version
from typing import TypeVar, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

import koine
from koine.encoder import ConceptEncoder
from koine.errors import (
    KoineError,
    NotReadyError,
    OverloadedError,
    RateLimitError,
    RequestError,
    TooLargeError,
)
from service import jobs, metrics, openapi, telemetry
from service.access import redact
from service.access.access import Access
from service.access.guard import Guard
from service.access.headers import SecurityHeaders, cors
from service.answers import answer_body
from service.body import read_body, unless_gone
from service.call import Call
from service.core import Account, Core
from service.errors import http_problem, problem
from service.observe import CLIENT_GONE, Observe
from service.reading import Asked, read_form, read_json, read_raw
from service.schemas import Health, InfoResponse, Limits, StreamInfo
from service.settings import Settings

T = TypeVar("T")
TIMEOUT_HEADER = "koine-timeout-ms"
INLINE_BYTES = 64 * 1024
"""Bodies up to this size are read in the event loop; a hop to a thread would cost more."""


def create_app(settings: Settings) -> Starlette:
    """The service as an ASGI app; its lifespan loads the artifacts in the background."""

    access = Access.of(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        async with telemetry.running(settings):
            redact.install()
            await access.start()
            core = app.state.core = Core(settings)
            await core.start()
            yield
            await core.close()
            await access.close()

    routes = _routes()
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(Observe, routes=routes),
            *cors(settings),
            Middleware(Guard, access=access, metrics_auth=settings.metrics_auth),
        ],
        exception_handlers={
            KoineError: _on_error,
            HTTPException: _on_http_error,
            ClientDisconnect: _on_gone,
        },
    )
    app.state.settings = settings
    app.state.access = access
    return app


def _routes() -> list[BaseRoute]:
    return [
        Route("/v1/encode", encode, methods=["POST"]),
        Route("/v1/info", info),
        Route("/livez", livez),
        Route("/healthz", livez),
        Route("/readyz", readyz),
        Route("/metrics", show_metrics),
        Route("/openapi.json", show_openapi),
        Route("/docs", show_docs),
        Mount("/docs/assets", StaticFiles(directory=openapi.ASSETS)),
    ]


async def encode(request: Request) -> Response:
    """`POST /v1/encode`: items in, codes or an error for each out."""
    core = _core(request)
    arrived = time.perf_counter()
    with core.inflight.account() as account:
        asked, read_s = await _read(request, core, account)
        request.app.state.access.spend(request.state.key, len(asked.items))
        call = Call(items=asked.items, options=asked.options, timeout_s=timeout_of(request))
        encoded = await unless_gone(request, core.encode(call))
    start = time.perf_counter()
    write = partial(
        answer_body,
        encoded.dictionary.title,
        [item.id for item in asked.items],
        encoded.answers,
        asked.options,
        num_concepts=encoded.dictionary.encoder.num_concepts,
        labels=encoded.dictionary.labels,
    )
    content = await _run(len(encoded.answers) > 4, write)
    end = time.perf_counter()
    metrics.STAGE_SECONDS.labels("answer").observe(end - start)
    telemetry.stage("answer", start, end)
    encoded.timings.read = read_s
    encoded.timings.total = end - arrived
    headers = {"Server-Timing": encoded.timings.header()}
    return Response(content, media_type="application/json", headers=headers)


async def _read(request: Request, core: Core, account: Account) -> tuple[Asked, float]:
    """The request, and how long it took to parse it."""
    read = _reader(request, core)
    body = await read_body(request, core.settings.max_body_bytes, account)
    start = time.perf_counter()
    asked = await _run(len(body) > INLINE_BYTES, read, body)
    end = time.perf_counter()
    metrics.STAGE_SECONDS.labels("read").observe(end - start)
    telemetry.stage("read", start, end)
    return asked, end - start


def timeout_of(request: Request) -> float | None:
    """What the client will wait, in its `Koine-Timeout-Ms`. Raises `RequestError`."""
    given = request.headers.get(TIMEOUT_HEADER)
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and 0 < len(given) < 10 and int(given)):
        raise RequestError(f"`{TIMEOUT_HEADER}` must be whole milliseconds from 1, got {given!r}")
    return int(given) / 1000


def _reader(request: Request, core: Core) -> Callable[[bytes], Asked]:
    """How to read the body. Raises 415 for a media type that is none of ours, and
    `OverloadedError` where the request is sure to be refused."""
    dictionary, max_items = core.dictionaries.find(), core.settings.max_items
    content_type = request.headers.get("content-type", "application/json")
    media_type = content_type.split(";")[0].strip().lower()
    query = dict(request.query_params)
    if media_type.startswith("image/"):
        dictionary.check_room("image")
        return partial(read_raw, query=query)
    dictionary.check_room()
    if media_type == "application/json" or media_type.endswith("+json"):
        return partial(read_json, max_items=max_items)
    if media_type == "multipart/form-data":
        return partial(read_form, content_type, query=query, max_items=max_items)
    raise HTTPException(
        415,
        f"got Content-Type {content_type!r}; send application/json, multipart/form-data or image/*",
    )


async def _run(in_thread: bool, call: Callable[..., T], *args: object) -> T:
    return await asyncio.to_thread(call, *args) if in_thread else call(*args)


async def info(request: Request) -> Response:
    """`GET /v1/info`: the dictionary, its streams and the limits."""
    core = _core(request)
    settings = core.settings
    served = core.dictionaries.served
    asked = core.dictionaries.find(request.query_params.get("dictionary"))
    encoder = asked.encoder
    manifest = encoder.artifact.manifest
    answer = InfoResponse(
        dictionary=manifest.title,
        dictionaries=[dictionary.title for dictionary in served],
        digest=encoder.artifact.digest,
        num_concepts=encoder.num_concepts,
        k=encoder.k,
        joint=manifest.selection.joint,
        streams=[_stream_info(encoder, name) for name in encoder.streams],
        limits=Limits(
            body_bytes=settings.max_body_bytes,
            items=settings.max_items,
            pixels=settings.max_pixels,
            text_chars=settings.max_text_chars,
            queue_items=settings.max_queue,
            inflight_bytes=settings.max_inflight_bytes,
            wait_seconds=settings.max_wait_s,
            timeout_seconds=settings.timeout_s,
        ),
        max_batch=settings.max_batch,
        provider=encoder.provider,
        versions={
            "koine": koine.__version__,
            "artifact_format": str(manifest.format_version),
            "bentoml": version("bentoml"),
        },
    )
    return JSONResponse(answer.model_dump())


def _stream_info(encoder: ConceptEncoder, name: str) -> StreamInfo:
    spec = encoder.streams[name]
    accepts = ["activations"]
    if jobs.readable(encoder, name):
        accepts.insert(0, spec.modality)
    return StreamInfo(
        name=name,
        modality=spec.modality,
        d_in=spec.d_in,
        accepts=accepts,  # pyright: ignore[reportArgumentType] # validated by the model
        encoder=spec.encoder.name if spec.encoder else None,
        revision=spec.encoder.revision if spec.encoder else None,
    )


async def livez(request: Request) -> Response:
    """`GET /livez`: 503 when a loop has died or a forward pass hangs."""
    if not _core(request).alive:
        return problem(NotReadyError("a batching loop has stopped; restart the process"))
    return JSONResponse(Health(status="alive").model_dump())


async def readyz(request: Request) -> Response:
    """`GET /readyz`: 503, with the reason, until every artifact is verified and warm."""
    assert _core(request).dictionaries.served  # raises NotReadyError
    return JSONResponse(Health(status="ready").model_dump())


async def show_metrics(request: Request) -> Response:
    """`GET /metrics`: Prometheus text of all workers."""
    content = await asyncio.to_thread(metrics.exposition)
    return Response(content, media_type=metrics.CONTENT_TYPE)


async def show_openapi(request: Request) -> Response:
    """`GET /openapi.json`."""
    return JSONResponse(openapi.document())


async def show_docs(request: Request) -> Response:
    """`GET /docs`: Swagger UI from files of this machine."""
    return HTMLResponse(openapi.DOCS_PAGE)


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, KoineError)
    # what a key is refused is counted where it is refused
    if isinstance(error, OverloadedError) and not isinstance(error, RateLimitError):
        metrics.REJECTED.labels("queue_full").inc()
    if isinstance(error, TooLargeError):
        metrics.REJECTED.labels("too_large").inc()
    return problem(error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        error.detail = f"{request.url.path} is no endpoint of this service; /docs lists them"
    if error.status_code == 405:
        error.detail = f"{request.method} is not allowed here; /docs says what is"
    return http_problem(error)


async def _on_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_GONE)


def _core(request: Request) -> Core:
    return cast("Core", request.app.state.core)
