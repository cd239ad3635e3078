"""`POST /v1/localize`: where in an image a concept lies."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from koine.errors import RequestError
from service.cards import concept_json
from service.localise import Ask, Localisation, localise
from service.multipart import read_parts
from service.reading import read_object
from service.routes.request import Exchange, Written, json_bytes, media_type_of
from service.schemas import LocalizeRequest

OPTIONS = ("concept", "text", "stream", "dictionary")
"""Those that raw images have in the query and forms as parts."""
PNG = "image/png"


async def localize(request: Request) -> Response:
    """`POST /v1/localize`: an image and a concept or a text in, heat out, as JSON or as PNG."""
    exchange = Exchange(request)
    core = exchange.core
    read = _reader(request)
    _ = core.dictionaries.served  # raises while there is none
    with core.inflight.account() as account:
        ask = await exchange.read(account, read)
        exchange.spend(1)
        found = await exchange.unless_gone(localise(core, ask, exchange.timeout_s))
    as_png = _accepts_png_alone(request.headers.get("accept", ""))
    return await exchange.answer(found.timings, True, partial(_write, found, as_png))


def _reader(request: Request) -> Callable[[bytes], Ask]:
    media_type, query = media_type_of(request), dict(request.query_params)
    if media_type.startswith("image/"):
        return partial(_read_raw, query=query)
    if media_type == "application/json" or media_type.endswith("+json"):
        return _read_json
    content_type = request.headers["content-type"]
    if media_type == "multipart/form-data":
        return partial(_read_form, content_type, query)
    raise HTTPException(
        415,
        f"got Content-Type {content_type!r}; send application/json, multipart/form-data or image/*",
    )


def _read_json(body: bytes) -> Ask:
    return Ask(**read_object(body, LocalizeRequest).model_dump())


def _read_raw(body: bytes, query: Mapping[str, str]) -> Ask:
    return _ask(body, query)


def _read_form(content_type: str, query: Mapping[str, str], body: bytes) -> Ask:
    image: bytes | None = None
    options = dict(query)
    for part in read_parts(content_type, body):
        if part.name in OPTIONS and not part.is_file:
            if part.name in options:
                raise RequestError(f"the option `{part.name}` is given twice; give it once")
            options[part.name] = part.text
        elif image is None:
            image = part.data
        else:
            raise RequestError(f"the part `{part.name}` is a second image; send one")
    if image is None:
        raise RequestError("the form has no `image` part; send the file to look at")
    return _ask(image, options)


def _ask(image: bytes, options: Mapping[str, str]) -> Ask:
    for name in options:
        if name not in OPTIONS:
            raise RequestError(f"unknown option `{name[:64]}`; there are {', '.join(OPTIONS)}")
    values: dict[str, Any] = dict(options)
    concept = values.get("concept")
    if concept is not None:
        if not (concept.isascii() and concept.isdigit() and len(concept) < 10):
            raise RequestError(f"`concept` must be a whole number from 0, got {concept[:64]!r}")
        values["concept"] = int(concept)
    return Ask(image=image, **values)


def _accepts_png_alone(accept: str) -> bool:
    kinds = [kind.split(";")[0].strip().lower() for kind in accept.split(",")]
    return PNG in kinds and "application/json" not in kinds


def _write(found: Localisation, as_png: bool) -> Written:
    if as_png:
        headers = {"Koine-Concept": str(found.found.concept.id), "Koine-Stream": found.stream}
        return found.overlay, PNG, headers | {"Vary": "Accept"}
    body = localisation_json(found) | {"overlay": base64.b64encode(found.overlay).decode()}
    return json_bytes(body), "application/json", {"Vary": "Accept"}


def localisation_json(found: Localisation) -> dict[str, Any]:
    """All but the overlay."""
    width, height = found.size
    return {
        "dictionary": found.dictionary,
        "concept": concept_json(found.found.concept),
        "found": {"by": found.found.by, "value": found.found.value},
        "stream": found.stream,
        "width": width,
        "height": height,
        "seen": found.seen._asdict(),
        # nine digits name every float32
        "grid": [[float(f"{value:.9g}") for value in row] for row in found.grid_GG.tolist()],
    }
