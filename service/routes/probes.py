"""What orchestrators, scrapers and browsers ask: probes, metrics and the API's description."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from service import metrics, openapi
from service.page import CONCEPTS_PAGE
from service.routes.request import check_alive, core_of
from service.schemas import Health


async def livez(request: Request) -> Response:
    """`GET /livez`: 503 when a loop has died or a forward pass hangs."""
    check_alive(request)
    return JSONResponse(Health(status="alive").model_dump())


async def readyz(request: Request) -> Response:
    """`GET /readyz`: 503, with the reason, until every artifact is verified and warm, and
    when the service is about to stop."""
    core_of(request).check_ready()
    return JSONResponse(Health(status="ready").model_dump())


async def show_metrics(request: Request) -> Response:
    """`GET /metrics`: Prometheus text of all workers."""
    content = await asyncio.to_thread(metrics.exposition)
    drift = core_of(request).drift
    content += b"" if drift is None else drift.exposition()
    return Response(content, media_type=metrics.CONTENT_TYPE)


async def show_openapi(request: Request) -> Response:
    """`GET /openapi.json`."""
    return JSONResponse(openapi.document())


async def show_concepts(request: Request) -> Response:
    """`GET /concepts`: the page where people check concepts."""
    return HTMLResponse(CONCEPTS_PAGE)


async def show_docs(request: Request) -> Response:
    """`GET /docs`: Swagger UI from files of this machine."""
    return HTMLResponse(openapi.DOCS_PAGE)
