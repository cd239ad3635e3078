"""The HTTP endpoints as one Starlette app; every answer that is no success is problem+json."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from koine.errors import KoineError, OverloadedError, RateLimitError, TooLargeError
from service import metrics, openapi, telemetry
from service.access import redact
from service.access.access import Access
from service.access.guard import Guard
from service.access.headers import SecurityHeaders, cors
from service.access.tls import server_credentials
from service.core import Core
from service.errors import http_problem, problem
from service.lame_duck import LAME_DUCK, LeaveInOrder
from service.observe import CLIENT_GONE, Observe
from service.routes.compare import compare
from service.routes.concepts import concepts, exemplar, one_concept
from service.routes.drift import drift, drift_concepts
from service.routes.embeddings import embeddings
from service.routes.encode import encode
from service.routes.inference import ROUTES as INFERENCE
from service.routes.info import info
from service.routes.localise import localise
from service.routes.probes import (
    livez,
    readyz,
    show_concepts,
    show_docs,
    show_metrics,
    show_openapi,
)
from service.routes.translate import translate
from service.rpc.edge import authorize
from service.rpc.server import rpc_serving
from service.settings import Settings


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
            if core.audit is not None:
                access.followers.add(core.audit.follow_keys)
            try:
                credentials = server_credentials(settings)
                async with rpc_serving(
                    core, authorize=partial(authorize, access), credentials=credentials
                ):
                    with LAME_DUCK.after_sigterm(settings.lame_duck_s):
                        yield
            finally:
                access.followers.clear()
                await core.close()
                await access.close()

    routes = _routes()
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(LeaveInOrder),
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
    metrics.prepare_routes(metrics.RPC_ROUTES)
    app.state.settings = settings
    app.state.access = access
    return app


def _routes() -> list[BaseRoute]:
    return [
        Route("/v1/encode", encode, methods=["POST"]),
        Route("/v1/embeddings", embeddings, methods=["POST"]),
        Route("/v1/compare", compare, methods=["POST"]),
        Route("/v1/translate", translate, methods=["POST"]),
        Route("/v1/localize", localise, methods=["POST"]),
        Route("/v1/concepts", concepts),
        Route("/v1/concepts/{id}", one_concept, methods=["GET", "PATCH"]),
        Route("/v1/concepts/{id}/exemplars/{n}", exemplar),
        Route("/v1/info", info),
        Route("/v1/drift", drift),
        Route("/v1/drift/concepts", drift_concepts),
        *INFERENCE,
        Route("/livez", livez),
        Route("/healthz", livez),
        Route("/readyz", readyz),
        Route("/metrics", show_metrics),
        Route("/openapi.json", show_openapi),
        Route("/docs", show_docs),
        Route("/concepts", show_concepts),
        Mount("/docs/assets", StaticFiles(directory=openapi.ASSETS)),
    ]


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, KoineError)
    # what a key is refused is counted where it is refused
    if isinstance(error, OverloadedError) and not isinstance(error, RateLimitError):
        metrics.REJECTED.labels("queue_full").inc()
    if isinstance(error, TooLargeError):
        metrics.REJECTED.labels("too_large").inc()
    return problem(error, request.scope["path"])


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.scope["path"]
    if error.status_code == 404:
        error.detail = f"{path} is no endpoint of this service; /docs lists them"
    if error.status_code == 405:
        error.detail = f"{request.method} is not allowed here; /docs says what is"
    return http_problem(error, path)


async def _on_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_GONE)
