"""`POST /v1/embeddings`: codes in OpenAI's shape, so that its clients work as they are."""

from __future__ import annotations

import json
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from service.embeddings import Embedded, embed, embedding_json, read_inputs, tokens_read
from service.flow import INLINE_CHARS
from service.jobs import Item
from service.reading import read_object
from service.routes.request import INLINE_ITEMS, Exchange, check_json
from service.schemas import EmbeddingsEnvelope
from service.schemas.embeddings import EncodingFormat


async def embeddings(request: Request) -> Response:
    """`POST /v1/embeddings`: one bad input is a bad request, named by its position."""
    check_json(request)
    exchange = Exchange(request)
    core = exchange.core
    await core.dictionaries.find().check_room()
    read = partial(_read, max_items=core.settings.max_items)
    with core.inflight.account() as account:
        items, asked = await exchange.read(account, read)
        exchange.spend(len(items))
        embedded = await exchange.unless_gone(embed(core, asked, items, exchange.timeout_s))
    write = partial(_write, embedded, asked.encoding_format)
    long = any(len(item.text or "") > INLINE_CHARS for item in items)
    in_thread = long or len(items) > INLINE_ITEMS
    return await exchange.answer(embedded.encoded.timings, in_thread, write)


def _read(body: bytes, max_items: int) -> tuple[list[Item], EmbeddingsEnvelope]:
    asked = read_object(body, EmbeddingsEnvelope)
    return read_inputs(asked, max_items), asked


def _write(embedded: Embedded, form: EncodingFormat) -> bytes:
    dictionary = embedded.encoded.dictionary
    num_concepts = dictionary.encoder.num_concepts
    # item by item: as Python numbers all of them would take many times their text
    numbers = (embedding_json(row, form, num_concepts) for row in embedded.rows)
    data = ",".join(
        f'{{"object":"embedding","index":{n},"embedding":{text}}}' for n, text in enumerate(numbers)
    )
    tokens = tokens_read(embedded)
    model = json.dumps(dictionary.title)
    usage = f'{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}'
    return f'{{"object":"list","data":[{data}],"model":{model},"usage":{usage}}}'.encode()
