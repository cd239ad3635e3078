"""The concepts of a dictionary, one JSON line each; names none of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, JsonValue, ValidationError

from koine.errors import ArtifactError
from koine.streams import Spec


class Concept(Spec):
    """What is known of one concept."""

    id: int = Field(ge=0)
    """Its index in codes."""
    label: str | None = None
    status: str = "unnamed"
    source: str | None = None
    """What gave the label."""
    score: float | None = None
    """How well the label fits, by its source's measure."""
    rate: dict[str, float] = {}
    """Share of the reference items in which it is active, per stream, encoded independently."""
    evidence: tuple[JsonValue, ...] = ()


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
