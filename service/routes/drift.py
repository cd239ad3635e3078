"""`GET /v1/drift`: how the concepts of the traffic differ from the dictionary's reference."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.drift import drift_of
from service.reading import read_query
from service.routes.request import core_of
from service.schemas import DriftQuery


async def drift(request: Request) -> Response:
    """`GET /v1/drift`: the verdict on the last window, in words and numbers."""
    core = core_of(request)
    asked = read_query(request.query_params, DriftQuery)
    dictionary = core.dictionaries.find(asked.dictionary)
    window_s = asked.window_s or core.settings.drift_window_s
    return JSONResponse(await drift_of(core.counting, dictionary, window_s))
