"""What another stream's encoder would have computed, from an item's codes; knows no HTTP."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from koine.errors import InputError, KoineError
from service import jobs
from service.call import Call, Encoded
from service.core import Core
from service.dictionary import Dictionary
from service.jobs import Item
from service.schemas import Options


class Translation(NamedTuple):
    """One stream's codes, decoded into the target's space."""

    activations_D: Float32[np.ndarray, "D"]
    """Of the scale of unit-norm activations."""
    expected_fvu: float | None
    """The dictionary's held-out fvu of this pair of streams, encoded independently, if known."""


Translated = dict[str, Translation] | KoineError
"""An item's translations by the stream that the codes are from, or why there are none."""


class Translations(NamedTuple):
    """What each item was translated to, in order."""

    encoded: Encoded
    results: list[Translated]


async def translate(
    core: Core,
    items: Sequence[Item],
    to: str,
    *,
    dictionary: str | None = None,
    timeout_s: float | None = None,
) -> Translations:
    """Decodes the codes of every stream of an item but `to` itself with the decoder of `to`.

    Raises what concerns the whole request: `UnknownStreamError`, `InputError` where the dictionary
    has no other stream, and what `Core.encode` raises.
    """
    found = core.dictionaries.find(dictionary)
    encoder = found.encoder
    if to not in encoder.streams:
        raise jobs.unknown_stream(to, encoder)
    others = [name for name in encoder.streams if name != to]
    if not others:
        raise InputError(f"`{to}` is the only stream of {found.title}; there is none to translate")
    options = Options(streams=others, dictionary=found.title)
    encoded = await core.encode(Call(items=items, options=options, timeout_s=timeout_s))
    return Translations(encoded, await asyncio.to_thread(_decoded, encoded, to))


def _decoded(encoded: Encoded, to: str) -> list[Translated]:
    """All items of a stream are decoded at once."""
    dictionary = encoded.dictionary
    results: list[Translated] = [
        answer if isinstance(answer, KoineError) else {} for answer in encoded.answers
    ]
    places: defaultdict[str, list[int]] = defaultdict(list)
    for n, answer in enumerate(encoded.answers):
        if not isinstance(answer, KoineError):
            for name in answer:
                places[name].append(n)
    for name in (name for name in dictionary.encoder.streams if name in places):
        rows = [_row(encoded, n, name) for n in places[name]]
        acts_ND = dictionary.decoders.decode(
            to, np.stack([row.indices_K for row in rows]), np.stack([row.values_K for row in rows])
        )
        expected = expected_fvu(dictionary, name, to)
        for n, acts_D in zip(places[name], acts_ND, strict=True):
            result = results[n]
            assert not isinstance(result, KoineError)
            result[name] = Translation(acts_D, expected)
    return results


def _row(encoded: Encoded, n: int, name: str) -> jobs.Row:
    answer = encoded.answers[n]
    assert not isinstance(answer, KoineError)
    return answer[name]


def expected_fvu(dictionary: Dictionary, source: str, to: str) -> float | None:
    """What translating between two streams leaves unexplained on held-out items, by the
    dictionary's own report; None where it was not evaluated."""
    metrics = dictionary.encoder.artifact.manifest.metrics
    return metrics.get(f"independent.fvu.{source}->{to}")
