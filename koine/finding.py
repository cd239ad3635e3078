"""Which concept a text means, by the concepts' labels or by its own codes; encodes nothing."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float32, Int32

from koine.codes import PAD
from koine.concepts import Concept
from koine.errors import UnknownConceptError

NEAREST = 3
"""Labels that are named where none fits."""


class Found(NamedTuple):
    """The concept that is looked for, and how it was found."""

    concept: Concept
    by: Literal["id", "label", "codes"]
    """`codes`: no label fits the text, and it is the strongest in the text's own codes."""
    value: float | None = None
    """Of that code."""


def find_in_codes(
    text: str,
    concepts: Sequence[Concept],
    stream: str,
    codes: tuple[Int32[np.ndarray, "K"], Float32[np.ndarray, "K"]],
    floor: float | None,
) -> Found:
    """The strongest concept in a text's `codes` (indices and values) that `stream` activates, too.

    Raises `UnknownConceptError`, with the nearest labels, where its value is not above `floor`, or
    no floor was measured.
    """
    indices_K, values_K = codes
    ids: list[int] = indices_K.tolist()
    able = [
        (float(value), -id_)
        for id_, value in zip(ids, values_K.tolist(), strict=True)
        if id_ != PAD and concepts[id_].rate.get(stream, 0.0) > 0
    ]
    value, minus_id = max(able, default=(0.0, 0))
    if floor is None or value <= floor:
        why = (
            ""
            if floor is None
            else f" (its strongest code is {value:.3g}; nonsense reaches {floor:.3g})"
        )
        raise UnknownConceptError(_nothing_fits(text, labels_of(concepts), why))
    return Found(concepts[-minus_id], "codes", value)


def labels_of(concepts: Sequence[Concept]) -> list[str]:
    """Labels that a text is matched with, each once, in lower case; rejected ones are none."""
    named = {(c.label or "").casefold() for c in concepts if c.status != "rejected"}
    return sorted(named - {""})


def find_concept(text: str, concepts: Sequence[Concept], stream: str) -> Concept:
    """The concept whose label is `text`, in any case, or whose label's words are all in it.

    Of several, the one with the longest label, then the one that `stream` activates most often.
    Rejected labels count for nothing. Raises `UnknownConceptError` with the nearest labels.
    """
    wanted = " ".join(text.casefold().split())
    named = {c.id: (c.label or "").casefold() for c in concepts if c.status != "rejected"}
    named = {id_: label for id_, label in named.items() if label}
    fitting = [id_ for id_, label in named.items() if label == wanted]
    if not fitting:
        words = set(wanted.split())
        fitting = [id_ for id_, label in named.items() if set(label.split()) <= words]
    if not fitting:
        raise UnknownConceptError(_nothing_fits(text, labels_of(concepts)))
    by_id = {concept.id: concept for concept in concepts}
    most = max(fitting, key=lambda id_: (len(named[id_]), by_id[id_].rate.get(stream, 0.0), -id_))
    return by_id[most]


def _nothing_fits(text: str, labels: list[str], why: str = "") -> str:
    if not labels:
        return (
            f"no concept fits {text[:80]!r}{why}: none of this dictionary's has a label; give a "
            "concept by its id, or name them first"
        )
    near = difflib.get_close_matches(text.casefold()[:80], labels, NEAREST, cutoff=0.0)
    return f"no concept fits {text[:80]!r}{why}; the nearest labels are {', '.join(near)}"
