"""`GET /v1/drift` and its table of concepts: how the traffic differs from the reference."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from koine.errors import DriftError
from service.drift.live import Live
from service.reading import read_query
from service.routes.request import core_of
from service.schemas import DriftConceptsQuery, DriftQuery
from service.settings import PREFIX


async def drift(request: Request) -> Response:
    """`GET /v1/drift`: the verdict on the last window and on those before, in words and numbers."""
    asked = read_query(request.query_params, DriftQuery)
    dictionary = core_of(request).dictionaries.find(asked.dictionary)
    live = _live(request)
    return JSONResponse(
        await live.verdict(dictionary, asked.window_s, asked.segment, asked.history)
    )


async def drift_concepts(request: Request) -> Response:
    """`GET /v1/drift/concepts`: every concept that was tested, changed or not."""
    asked = read_query(request.query_params, DriftConceptsQuery)
    dictionary = core_of(request).dictionaries.find(asked.dictionary)
    live = _live(request)
    return JSONResponse(
        await live.concepts(dictionary, asked.stream, asked.window_s, asked.segment, asked.limit)
    )


def _live(request: Request) -> Live:
    own = core_of(request).drift
    if own is None:
        raise DriftError(f"this service counts no concepts; start it without {PREFIX}DRIFT=false")
    return own.live
