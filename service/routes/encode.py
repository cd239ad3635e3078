"""`POST /v1/encode`: items in, codes or an error for each out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from service.answers import answer_body
from service.call import Call
from service.reading import Asked, read_form, read_json, read_raw
from service.routes.request import INLINE_ITEMS, Exchange, media_type_of


async def encode(request: Request) -> Response:
    """`POST /v1/encode`: JSON, a form or an image."""
    exchange = Exchange(request)
    core = exchange.core
    with core.inflight.account() as account:
        asked = await exchange.read(account, await _reader(exchange))
        exchange.spend(len(asked.items))
        call = Call(items=asked.items, options=asked.options, timeout_s=exchange.timeout_s)
        encoded = await exchange.unless_gone(core.encode(call))
    write = partial(
        answer_body,
        encoded.dictionary.title,
        [item.id for item in asked.items],
        encoded.answers,
        asked.options,
        num_concepts=encoded.dictionary.encoder.num_concepts,
        labels=encoded.dictionary.labels,
    )
    return await exchange.answer(encoded.timings, len(encoded.answers) > INLINE_ITEMS, write)


async def _reader(exchange: Exchange) -> Callable[[bytes], Asked]:
    """How to read the body. Raises 415 for a media type that is none of ours, and
    `OverloadedError` where the request is sure to be refused."""
    request, core = exchange.request, exchange.core
    dictionary, max_items = core.dictionaries.find(), core.settings.max_items
    media_type = media_type_of(request)
    query = dict(request.query_params)
    if media_type.startswith("image/"):
        await dictionary.check_room("image")
        return partial(read_raw, query=query)
    await dictionary.check_room()
    if media_type == "application/json" or media_type.endswith("+json"):
        return partial(read_json, max_items=max_items)
    content_type = request.headers["content-type"]
    if media_type == "multipart/form-data":
        return partial(read_form, content_type, query=query, max_items=max_items)
    raise HTTPException(
        415,
        f"got Content-Type {content_type!r}; send application/json, multipart/form-data or image/*",
    )
