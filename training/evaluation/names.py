"""What naming and people have said of the concepts, read for the report; names nothing itself.

`RUN/names/concepts.jsonl` is what `name` writes (`koine/concepts.py`); without it there are none.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, get_args

from koine.concepts import Concept, Status, read_concepts
from koine.errors import DataError
from koine.manifest import CONCEPTS

FOLDER = "names"
WALL, FAILED = 12, 6
"""Concepts shown: the best ones, and some that failed."""
SHOWN_EXEMPLARS = 4
PEOPLE: tuple[Status, ...] = ("verified", "renamed")
"""Statuses by which a person stands for the name."""
NAMED: tuple[Status, ...] = ("proposed", *PEOPLE)


def read_names(folder: Path, num_concepts: int, *, needed: bool) -> list[Concept] | None:
    """The concepts of `folder`; None where there are none and they are not `needed`.

    Raises DataError where they belong to a dictionary of another size, ArtifactError where a line
    cannot be read.
    """
    path = folder / CONCEPTS
    if not path.is_file():
        if needed:
            raise DataError(
                f"`{folder}` holds no `{CONCEPTS}`: give the folder that `name` wrote, or leave "
                "`--names` out"
            )
        return None
    concepts = read_concepts(path)
    if len(concepts) != num_concepts:
        raise DataError(
            f"`{path}` names {len(concepts):,} concepts and the run has {num_concepts:,}: "
            "it belongs to another run. Name this one again"
        )
    return concepts


def label_of(concepts: list[Concept] | None, concept: int) -> str | None:
    """A concept's name, None where it has none or people rejected it."""
    if concepts is None or concepts[concept].status not in NAMED:
        return None
    return concepts[concept].label


def names_record(concepts: list[Concept]) -> dict[str, Any]:
    """The report's `names`: concepts by status, the best ones and some that failed."""
    status = Counter(concept.status for concept in concepts)
    best = _best(concepts)
    return {
        "status": {name: status[name] for name in get_args(Status)},
        "named": sum(status[name] for name in NAMED),
        "checked": sum(status[name] for name in (*PEOPLE, "rejected")),
        "confirmed": sum(status[name] for name in PEOPLE),
        "best": [_card(concept) for concept in best],
        "failed": [_card(concept) for concept in _failed(concepts, best)],
    }


def _best(concepts: list[Concept]) -> list[Concept]:
    """Those that people stand for, then the best scores; a name once, so that it is varied."""
    named = [c for c in concepts if c.status in NAMED and c.label]
    ranked = sorted(named, key=lambda c: (c.status not in PEOPLE, -(c.score or 0), c.id))
    chosen: dict[str, Concept] = {}
    for concept in ranked:
        chosen.setdefault(str(concept.label), concept)
    return list(chosen.values())[:WALL]


def _failed(concepts: list[Concept], best: list[Concept]) -> list[Concept]:
    """In turn: names that people rejected, concepts that fire most without a name, worst scores."""
    shown = {concept.id for concept in best}
    left = [c for c in concepts if c.id not in shown]
    kinds = [
        sorted((c for c in left if c.status == "rejected"), key=lambda c: -_rate(c)),
        sorted((c for c in left if c.status == "unnamed" and _rate(c)), key=lambda c: -_rate(c)),
        sorted((c for c in left if c.status == "proposed"), key=lambda c: c.score or 0),
    ]
    chosen: list[Concept] = []
    while len(chosen) < FAILED and any(kinds):
        chosen += [kind.pop(0) for kind in kinds if kind]
    return chosen[:FAILED]


def _rate(concept: Concept) -> float:
    return sum(concept.rate.values()) / max(1, len(concept.rate))


def _card(concept: Concept) -> dict[str, Any]:
    kept = {"id", "label", "status", "score", "rate", "purity"}
    exemplars = [
        each.model_dump(include={"item", "stream", "caption", "thumbnail"})
        for each in concept.exemplars[:SHOWN_EXEMPLARS]
    ]
    return concept.model_dump(include=kept) | {"exemplars": exemplars}
