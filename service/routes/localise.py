"""`POST /v1/localize`: an image and a concept or a text in, the concept's heat out."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from koine.finding import Found
from service.cards import concept_json
from service.localise import Shown, Wanted, check_wanted
from service.localise import localise as localised
from service.localise_reading import read_form, read_json, read_raw
from service.routes.request import Exchange, Written, json_bytes, media_type_of

PNG = "image/png"


async def localise(request: Request) -> Response:
    """`POST /v1/localize`: JSON, a form or an image in; JSON, or the overlay as PNG, out."""
    exchange = Exchange(request)
    core = exchange.core
    core.dictionaries.find().lane.check_room()
    with core.inflight.account() as account:
        wanted = await exchange.read(account, _reader(request))
        check_wanted(wanted, core.settings.max_text_chars)
        exchange.spend(1)
        shown = await exchange.unless_gone(localised(core, wanted, exchange.timeout_s))
    return await exchange.answer(shown.timings, True, partial(_write, shown, _wants_png(request)))


def _reader(request: Request) -> Callable[[bytes], Wanted]:
    """How to read the body. Raises 415 for a media type that is none of ours."""
    media_type, query = media_type_of(request), dict(request.query_params)
    if media_type.startswith("image/"):
        return partial(read_raw, query=query)
    if media_type == "application/json" or media_type.endswith("+json"):
        return read_json
    content_type = request.headers["content-type"]
    if media_type == "multipart/form-data":
        return partial(read_form, content_type, query=query)
    raise HTTPException(
        415,
        f"got Content-Type {content_type!r}; send application/json, multipart/form-data or image/*",
    )


def _wants_png(request: Request) -> bool:
    """Whether `Accept` names PNG and not JSON."""
    accepted = request.headers.get("accept", "").lower()
    types = [one.split(";")[0].strip() for one in accepted.split(",")]
    return PNG in types and "application/json" not in types


def _write(shown: Shown, png: bool) -> Written:
    # a client that takes only the picture still learns whose it is
    headers = {"Koine-Concept": str(shown.concept.id)}
    if png:
        return shown.overlay, PNG, headers
    width, height = shown.size
    grid_GG = shown.localised.grid_GG
    answer = {
        "dictionary": shown.dictionary.title,
        "concept": concept_json(shown.concept),
        "resolved": resolved_json(shown.found),
        "stream": shown.stream,
        "width": width,
        "height": height,
        "grid": {
            "side": len(grid_GG),
            "heat": [[float(f"{value:.9g}") for value in row] for row in grid_GG.tolist()],
            "box": list(shown.localised.box),
        },
        "overlay": base64.b64encode(shown.overlay).decode(),
    }
    return json_bytes(answer), "application/json", headers


def resolved_json(found: Found | None) -> dict[str, Any]:
    """How the concept was found."""
    if found is None:
        return {"by": "id", "score": None, "stream": None, "floor": None, "matches": []}
    matches = [
        {"concept": match.concept.id, "label": match.concept.label, "score": match.score}
        for match in found.matches
    ]
    return {
        "by": found.by,
        "score": found.score,
        "stream": found.stream,
        "floor": found.floor,
        "matches": matches,
    }
