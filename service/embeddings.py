"""Codes in the shape of OpenAI's embeddings: a number for each concept; knows no HTTP."""

from __future__ import annotations

import base64
import reprlib
from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np

from koine.codes import PAD
from koine.errors import InputError, KoineError, RequestError
from service import jobs
from service.call import Call, Encoded
from service.core import Core
from service.dictionary import Dictionary
from service.errors import placed
from service.jobs import Item, Row
from service.reading import check_count, read_item
from service.schemas import EmbeddingsEnvelope, Options
from service.schemas.embeddings import EncodingFormat


class Embedded(NamedTuple):
    """The codes of each item in the stream that was chosen for it."""

    encoded: Encoded
    items: Sequence[Item]
    streams: list[str]
    rows: list[Row]


def read_inputs(asked: EmbeddingsEnvelope, max_items: int) -> list[Item]:
    """The inputs as items. Raises `RequestError` for what is none, `TooLargeError`."""
    given = asked.input
    inputs = [given] if isinstance(given, str) else given
    if not isinstance(inputs, list) or not inputs:
        raise RequestError(
            f"`input` must be a text, or a list of at least 1 text or item, got "
            f"{reprlib.repr(given)}"
        )
    inputs = cast("list[object]", inputs)
    check_count(len(inputs), max_items)
    return [_item(n, value) for n, value in enumerate(inputs)]


def _item(n: int, value: object) -> Item:
    if isinstance(value, str):
        return Item(id=str(n), text=value)
    if isinstance(value, int | list):
        raise RequestError(
            f"`input` {n} is made of tokens, which are another tokenizer's; send the texts "
            "(LangChain: `check_embedding_ctx_length=False`)"
        )
    return read_item(str(n), value)


async def embed(
    core: Core, asked: EmbeddingsEnvelope, items: Sequence[Item], timeout_s: float | None = None
) -> Embedded:
    """Codes of every item. Raises what concerns the whole request, and the first item's error with
    its position: this shape has no place for it."""
    dictionary = core.dictionaries.find(asked.model)
    num_concepts = dictionary.encoder.num_concepts
    if asked.dimensions not in (None, num_concepts):
        raise RequestError(
            f"`dimensions` {asked.dimensions} cannot be had: {dictionary.title} has {num_concepts} "
            'concepts, one dimension each; leave it out, or ask for `"encoding_format": "sparse"`'
        )
    streams = [_stream(n, item, asked.stream, dictionary) for n, item in enumerate(items)]
    options = Options(streams=list(dict.fromkeys(streams)), dictionary=dictionary.title)
    encoded = await core.encode(Call(items=items, options=options, timeout_s=timeout_s))
    rows: list[Row] = []
    for n, (name, answer) in enumerate(zip(streams, encoded.answers, strict=True)):
        if isinstance(answer, KoineError):
            raise placed(answer, f"`input` {n}")
        rows.append(answer[name])
    return Embedded(encoded, items, streams, rows)


def _stream(n: int, item: Item, wanted: str | None, dictionary: Dictionary) -> str:
    """Whose codes the item is answered with: those of the first stream that fits."""
    encoder = dictionary.encoder
    if wanted is not None and wanted not in encoder.streams:
        raise jobs.unknown_stream(wanted, encoder)
    try:
        if item.error is not None:
            raise item.error
        asked = list(encoder.streams) if wanted is None else [wanted]
        found = jobs.streams_by_source(item, asked, encoder)
        fitting = {name for names in found.values() for name in names}
        return next(name for name in asked if name in fitting)
    except InputError as error:
        raise placed(error, f"`input` {n}") from None


def embedding_json(row: Row, form: EncodingFormat, num_concepts: int) -> str:
    """One embedding as JSON.

    Written by hand: nearly all of its numbers are 0, and there are as many as concepts.
    """
    active_K = row.indices_K != PAD
    indices_K, values_K = row.indices_K[active_K], row.values_K[active_K]
    if form == "base64":
        dense_C = np.zeros(num_concepts, "<f4")
        dense_C[indices_K] = values_K
        return f'"{base64.b64encode(dense_C.tobytes()).decode()}"'
    # nine digits name every float32
    values = [repr(float(f"{value:.9g}")) for value in values_K.tolist()]
    if form == "sparse":
        indices = ",".join(map(str, indices_K.tolist()))
        return f'{{"indices":[{indices}],"values":[{",".join(values)}]}}'
    numbers = ["0.0"] * num_concepts
    for concept, value in zip(indices_K.tolist(), values, strict=True):
        numbers[concept] = value
    return f"[{','.join(numbers)}]"


def tokens_read(embedded: Embedded) -> int:
    """How many tokens the text streams have read, after cutting; tokenizes again."""
    encoder = embedded.encoded.dictionary.encoder
    texts: dict[str, list[str]] = {}
    for name, item in zip(embedded.streams, embedded.items, strict=True):
        if item.text is None or name in item.activations:
            continue
        if encoder.streams[name].modality == "text":
            texts.setdefault(name, []).append(item.text)
    return sum(int(encoder.tokenize(name, found).mask_NT.sum()) for name, found in texts.items())
