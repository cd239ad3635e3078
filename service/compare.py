"""Where the streams of an item agree, and about what; knows no HTTP, encodes nothing itself."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

from koine.codes import PAD
from koine.concepts import Concept
from koine.errors import InputError, KoineError
from service.call import Call, Encoded
from service.core import Core
from service.dictionary import Answer
from service.jobs import Item, Row
from service.schemas import Options


class Valued(NamedTuple):
    """A concept as it is active in an item."""

    concept: Concept
    value: float


class Pair(NamedTuple):
    """Two streams' concepts of one item, the largest value first, ties by id."""

    jaccard: float | None
    """|A ∩ B| / |A ∪ B|; None where both are empty."""
    shared: list[Valued]
    """`value` is the mean of the two streams'."""
    only_a: list[Valued]
    only_b: list[Valued]


Compared = dict[str, Pair] | KoineError
"""An item's pairs of streams by "a|b", a before b in the dictionary, or why there are none."""


async def encode_to_compare(
    core: Core,
    items: Sequence[Item],
    *,
    streams: list[str] | None = None,
    dictionary: str | None = None,
    timeout_s: float | None = None,
) -> Encoded:
    """The items' codes, each stream's selected by it alone: joint ones agree by construction."""
    options = Options(streams=streams, mode="independent", dictionary=dictionary)
    return await core.encode(Call(items=items, options=options, timeout_s=timeout_s))


def compare(encoded: Encoded) -> list[Compared]:
    """The pairs of each item, in order. Work for a thread where there are many items."""
    dictionary = encoded.dictionary
    order = list(dictionary.encoder.streams)
    return [_compared(answer, order, dictionary.concepts) for answer in encoded.answers]


def _compared(answer: Answer, order: Sequence[str], concepts: Sequence[Concept]) -> Compared:
    if isinstance(answer, KoineError):
        return answer
    names = [name for name in order if name in answer]
    if len(names) < 2:
        return InputError(
            f"the item has codes in one stream, `{names[0]}`; comparing takes two or more: send an "
            "image that several streams read, an image and a text, or activations of another stream"
        )
    values = {name: _values(answer[name]) for name in names}
    return {f"{a}|{b}": _pair(values[a], values[b], concepts) for a, b in combinations(names, 2)}


def _values(row: Row) -> dict[int, float]:
    active_K = row.indices_K != PAD
    return dict(zip(row.indices_K[active_K].tolist(), row.values_K[active_K].tolist(), strict=True))


def _pair(a: dict[int, float], b: dict[int, float], concepts: Sequence[Concept]) -> Pair:
    shared = {c: (a[c] + b[c]) / 2 for c in a.keys() & b.keys()}
    union = len(a.keys() | b.keys())
    return Pair(
        len(shared) / union if union else None,
        _ranked(shared, concepts),
        _ranked({c: a[c] for c in a.keys() - b.keys()}, concepts),
        _ranked({c: b[c] for c in b.keys() - a.keys()}, concepts),
    )


def _ranked(values: dict[int, float], concepts: Sequence[Concept]) -> list[Valued]:
    by_value = sorted(values.items(), key=lambda entry: (-entry[1], entry[0]))
    return [Valued(concepts[c], value) for c, value in by_value]
