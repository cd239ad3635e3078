"""What people said of a dictionary's concepts, laid over another's: concepts in, concepts out.

Knows neither files nor how concepts were matched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from koine.concepts import Concept
from training.migration.match import Match

LABEL_FROM, VERIFIED_FROM = 0.5, 0.8
"""Confidence from which a label, and from which a person's judgement of it, goes over."""


def carried(
    old: Sequence[Concept],
    new: Sequence[Concept],
    matches: Iterable[Match],
    *,
    label_from: float = LABEL_FROM,
    verified_from: float = VERIFIED_FROM,
) -> list[Concept]:
    """The new concepts with the old ones' labels where the match is sure enough.

    What a person said of a new concept stays. A judgement below `verified_from` goes over as a
    proposal, a rejection below it not at all; `source` names the old concept, `score` is the
    confidence of the match.
    """
    concepts = list(new)
    for m in matches:
        known, before = concepts[m.new], old[m.old]
        judged = known.status in ("verified", "rejected", "renamed")
        if judged or before.label is None or m.confidence < label_from:
            continue
        sure = m.confidence >= verified_from
        if before.status == "rejected" and not sure:
            continue
        concepts[m.new] = known.model_copy(
            update={
                "label": before.label,
                "status": before.status if sure else "proposed",
                "source": f"migrated:{m.old}",
                "score": round(m.confidence, 4),
            }
        )
    return concepts
