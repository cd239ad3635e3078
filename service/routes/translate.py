"""`POST /v1/translate`: what another stream's encoder would have computed of each item."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from koine.errors import KoineError
from service.errors import item_error
from service.jobs import Item
from service.reading import read_items, read_object
from service.routes.request import INLINE_ITEMS, Exchange, check_json, json_bytes
from service.schemas import TranslateEnvelope
from service.translate import Translation, Translations
from service.translate import translate as translated


async def translate(request: Request) -> Response:
    """`POST /v1/translate`: items and a stream in, that stream's activations out."""
    check_json(request)
    exchange = Exchange(request)
    core = exchange.core
    await core.dictionaries.find().check_room()
    read = partial(_read, max_items=core.settings.max_items)
    with core.inflight.account() as account:
        items, asked = await exchange.read(account, read)
        exchange.spend(len(items))
        translations = await exchange.unless_gone(
            translated(
                core, items, asked.to, dictionary=asked.dictionary, timeout_s=exchange.timeout_s
            )
        )
    write = partial(_write, translations, items)
    return await exchange.answer(translations.encoded.timings, len(items) > INLINE_ITEMS, write)


def _read(body: bytes, max_items: int) -> tuple[list[Item], TranslateEnvelope]:
    asked = read_object(body, TranslateEnvelope)
    return read_items(asked.inputs, max_items), asked


def _write(translations: Translations, items: Sequence[Item]) -> bytes:
    results: list[dict[str, Any]] = []
    for item, result in zip(items, translations.results, strict=True):
        if isinstance(result, KoineError):
            results.append({"id": item.id, "error": item_error(result)})
        else:
            found = {name: _translation_json(each) for name, each in result.items()}
            results.append({"id": item.id, "from": found})
    return json_bytes({"dictionary": translations.encoded.dictionary.title, "results": results})


def _translation_json(translation: Translation) -> dict[str, Any]:
    # nine digits name every float32
    activations = [float(f"{value:.9g}") for value in translation.activations_D.tolist()]
    return {"activations": activations, "expected_fvu": translation.expected_fvu}
