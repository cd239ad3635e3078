"""The concepts of a dictionary, one JSON line each; names none of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from koine.errors import ArtifactError
from koine.streams import Spec

Status = Literal["unnamed", "proposed", "verified", "rejected", "renamed"]
"""`unnamed`: nothing fits; `proposed`: named by `name`, seen by nobody; `verified`, `rejected`,
`renamed`: what a person made of the proposal."""

Route = Literal["direction", "firing"]
"""How a name was found: from the decoder's direction, or from the items where a concept fires."""


class Evidence(Spec):
    """A term that one route proposed for a concept."""

    route: Route
    stream: str
    term: str
    score: float
    """By the route's measure: correlation (firing), or standard deviations above other terms'."""


class Exemplar(Spec):
    """A reference item in which a concept is strongly active."""

    item: str
    """Its id in the store."""
    stream: str
    value: float
    caption: str | None = None
    thumbnail: str | None = None
    """Its JPEG's name within the artifact's `exemplars.zip`."""


class Concept(Spec):
    """What the artifact knows of one concept. What people say of it later is a layer beside it."""

    id: int = Field(ge=0)
    """Its index in codes."""
    label: str | None = None
    status: Status = "unnamed"
    source: str | None = None
    """What gave the label: the routes that agree, joined by `+`."""
    score: float | None = None
    """Chance that the label is right, 0 to 1, as it was found to be on held-out items."""
    rate: dict[str, float] = {}
    """Share of the reference items in which it is active, per stream, encoded independently."""
    purity: dict[str, float] = {}
    """Share of those items that have the label, per stream, on items not used for naming."""
    nearest: tuple[int, ...] = ()
    """Concepts whose directions are most alike, most alike first."""
    evidence: tuple[Evidence, ...] = ()
    exemplars: tuple[Exemplar, ...] = ()


def write_concepts(path: Path, concepts: Sequence[Concept]) -> None:
    """Writes one line per concept."""
    lines = [concept.model_dump_json() + "\n" for concept in concepts]
    path.write_text("".join(lines), encoding="utf-8")


def read_concepts(path: Path) -> list[Concept]:
    """All concepts, where line i holds concept i. Raises `ArtifactError` for any other line."""
    concepts: list[Concept] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        try:
            concept = Concept.model_validate_json(line)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise ArtifactError(f"{path} line {number + 1} is no concept: {reason}") from error
        if concept.id != number:
            raise ArtifactError(f"{path} line {number + 1} holds concept {concept.id}")
        concepts.append(concept)
    return concepts


def concept_labels(concepts: Sequence[Concept]) -> dict[int, str]:
    """Label by id, of those that have one."""
    return {concept.id: concept.label for concept in concepts if concept.label is not None}
