"""Which concept a text means, by the concepts' labels; encodes nothing and guesses nothing."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from koine.concepts import Concept
from koine.errors import UnknownConceptError

NEAREST = 3
"""Labels that are named where none fits."""


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
        raise UnknownConceptError(_nothing_fits(text, sorted(set(named.values()))))
    by_id = {concept.id: concept for concept in concepts}
    most = max(fitting, key=lambda id_: (len(named[id_]), by_id[id_].rate.get(stream, 0.0), -id_))
    return by_id[most]


def _nothing_fits(text: str, labels: list[str]) -> str:
    if not labels:
        return (
            f"no concept fits {text[:80]!r}: none of this dictionary's has a label; give a concept "
            "by its id, or name them first"
        )
    near = difflib.get_close_matches(text.casefold()[:80], labels, NEAREST, cutoff=0.0)
    return f"no concept fits {text[:80]!r}; the nearest labels are {', '.join(near)}"
