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
from koine.errors import KoineError, NotReadyError, OverloadedError, TooLargeError
from service import jobs, metrics, openapi
from service.answers import answer_body
from service.body import read_body, unless_gone
from service.errors import http_problem, problem
from service.observe import CLIENT_GONE, Observe
from service.pipeline import Pipeline
from service.reading import Asked, read_form, read_json, read_raw
from service.schemas import Health, InfoResponse, Limits, StreamInfo
from service.settings import Settings

T = TypeVar("T")
INLINE_BYTES = 64 * 1024
"""Bodies up to this size are read in the event loop; a hop to a thread would cost more."""


def create_app(settings: Settings) -> Starlette:
    """The service as an ASGI app; its lifespan loads the artifact in the background."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        pipeline = app.state.pipeline = Pipeline(settings)
        loading = asyncio.create_task(pipeline.load())
        yield
        loading.cancel()
        await pipeline.close()

    app = Starlette(
        routes=_routes(),
        lifespan=lifespan,
        middleware=[Middleware(Observe)],
        exception_handlers={
            KoineError: _on_error,
            HTTPException: _on_http_error,
            ClientDisconnect: _on_gone,
        },
    )
    app.state.settings = settings
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
    pipeline, settings = _pipeline(request), _settings(request)
    encoder = pipeline.encoder
    start = time.perf_counter()
    read = _reader(request, pipeline, settings.max_items)
    body = await read_body(request, settings.max_body_bytes)
    asked = await _run(len(body) > INLINE_BYTES, read, body)
    metrics.STAGE_SECONDS.labels("read").observe(time.perf_counter() - start)
    options = asked.options
    answers = await unless_gone(
        request, pipeline.encode(asked.items, options.streams, options.mode)
    )
    start = time.perf_counter()
    write = partial(
        answer_body,
        encoder.artifact.manifest.title,
        [item.id for item in asked.items],
        answers,
        num_concepts=encoder.num_concepts,
        top_k=options.top_k,
        encoding=options.encoding,
    )
    content = await _run(len(answers) > 4, write)
    metrics.STAGE_SECONDS.labels("answer").observe(time.perf_counter() - start)
    for item, answer in zip(asked.items, answers, strict=True):
        metrics.ITEMS.labels(
            item.modality, "error" if isinstance(answer, KoineError) else "ok"
        ).inc()
    return Response(content, media_type="application/json")


def _reader(request: Request, pipeline: Pipeline, max_items: int) -> Callable[[bytes], Asked]:
    """How to read the body. Raises 415 for a media type that is none of ours."""
    content_type = request.headers.get("content-type", "application/json")
    media_type = content_type.split(";")[0].strip().lower()
    if media_type == "application/json" or media_type.endswith("+json"):
        return partial(read_json, max_items=max_items)
    if media_type == "multipart/form-data":
        return partial(
            read_form, content_type, query=dict(request.query_params), max_items=max_items
        )
    if media_type.startswith("image/"):
        pipeline.check_room_for_image()
        return partial(read_raw, query=dict(request.query_params))
    raise HTTPException(
        415,
        f"got Content-Type {content_type!r}; send application/json, multipart/form-data or image/*",
    )


async def _run(in_thread: bool, call: Callable[..., T], *args: object) -> T:
    return await asyncio.to_thread(call, *args) if in_thread else call(*args)


async def info(request: Request) -> Response:
    """`GET /v1/info`: the dictionary, its streams and the limits."""
    encoder, settings = _pipeline(request).encoder, _settings(request)
    manifest = encoder.artifact.manifest
    answer = InfoResponse(
        dictionary=manifest.title,
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
    if not _pipeline(request).alive:
        return problem(NotReadyError("a batching loop has stopped; restart the process"))
    return JSONResponse(Health(status="alive").model_dump())


async def readyz(request: Request) -> Response:
    """`GET /readyz`: 503, with the reason, until the artifact is verified and warm."""
    assert _pipeline(request).encoder  # raises NotReadyError
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
    if isinstance(error, OverloadedError):
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


def _pipeline(request: Request) -> Pipeline:
    return cast("Pipeline", request.app.state.pipeline)


def _settings(request: Request) -> Settings:
    return cast("Settings", request.app.state.settings)
