"""`POST /v1/compare`: where the streams of each item agree, and about what."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from koine.errors import KoineError
from service.call import Encoded
from service.cards import concept_json
from service.compare import Pair, Valued, encode_to_compare
from service.compare import compare as compared
from service.errors import item_error
from service.jobs import Item
from service.reading import read_items, read_object
from service.routes.request import INLINE_ITEMS, Exchange, check_json, json_bytes
from service.schemas import CompareEnvelope


async def compare(request: Request) -> Response:
    """`POST /v1/compare`: items of two streams or more in, a comparison of each pair out."""
    check_json(request)
    exchange = Exchange(request)
    core = exchange.core
    await core.dictionaries.find().check_room()
    read = partial(_read, max_items=core.settings.max_items)
    with core.inflight.account() as account:
        items, asked = await exchange.read(account, read)
        exchange.spend(len(items))
        encoded = await exchange.unless_gone(
            encode_to_compare(
                core,
                items,
                streams=asked.streams,
                dictionary=asked.dictionary,
                timeout_s=exchange.timeout_s,
            )
        )
    write = partial(_write, encoded, items)
    return await exchange.answer(encoded.timings, len(items) > INLINE_ITEMS, write)


def _read(body: bytes, max_items: int) -> tuple[list[Item], CompareEnvelope]:
    asked = read_object(body, CompareEnvelope)
    return read_items(asked.inputs, max_items), asked


def _write(encoded: Encoded, items: Sequence[Item]) -> bytes:
    results: list[dict[str, Any]] = []
    for item, result in zip(items, compared(encoded), strict=True):
        if isinstance(result, KoineError):
            results.append({"id": item.id, "error": item_error(result)})
        else:
            pairs = {name: _pair_json(pair) for name, pair in result.items()}
            results.append({"id": item.id, "pairs": pairs})
    return json_bytes({"dictionary": encoded.dictionary.title, "results": results})


def _pair_json(pair: Pair) -> dict[str, Any]:
    return {
        "jaccard": pair.jaccard,
        "shared": [_valued_json(valued) for valued in pair.shared],
        "only_a": [_valued_json(valued) for valued in pair.only_a],
        "only_b": [_valued_json(valued) for valued in pair.only_b],
    }


def _valued_json(valued: Valued) -> dict[str, Any]:
    return concept_json(valued.concept) | {"value": float(f"{valued.value:.9g}")}
