"""Names as the report reads them: made up here, as `name` would write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from koine.concepts import Concept, Exemplar, write_concepts
from koine.errors import ArtifactError, DataError
from training.evaluation.names import FAILED, WALL, label_of, names_record, read_names


def concept(id: int, **given: Any) -> Concept:
    """A concept with a made-up name and one exemplar."""
    fields: dict[str, Any] = {
        "label": f"thing {id}",
        "status": "proposed",
        "score": 0.5,
        "rate": {"alpha": 0.1, "beta": 0.2},
        "exemplars": (
            Exemplar(item=f"item-{id}", stream="alpha", value=1.0, thumbnail=f"{id}.jpg"),
        ),
    }
    return Concept(id=id, **{**fields, **given})


def test_names_are_read_where_they_are(tmp_path: Path) -> None:
    assert read_names(tmp_path, 2, needed=False) is None
    with pytest.raises(DataError, match="holds no `concepts.jsonl`: give the folder that `name`"):
        read_names(tmp_path, 2, needed=True)
    concepts = [concept(0), concept(1)]
    write_concepts(tmp_path / "concepts.jsonl", concepts)
    assert read_names(tmp_path, 2, needed=False) == concepts


def test_names_of_another_run_and_broken_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "concepts.jsonl"
    write_concepts(path, [concept(0)])
    with pytest.raises(DataError, match="names 1 concepts and the run has 2"):
        read_names(tmp_path, 2, needed=False)
    path.write_text("{}\n")
    with pytest.raises(ArtifactError, match="line 1 is no concept"):
        read_names(tmp_path, 1, needed=False)


def test_a_rejected_name_is_not_used() -> None:
    concepts = [concept(0), concept(1, status="rejected"), concept(2, status="verified")]
    assert [label_of(concepts, i) for i in range(3)] == ["thing 0", None, "thing 2"]
    assert label_of(None, 0) is None


def test_the_best_are_those_people_stand_for_then_the_highest_scores() -> None:
    concepts = [
        concept(0, score=0.9),
        concept(1, score=0.95),
        concept(2, score=0.1, status="verified"),
        concept(3, score=0.99, label="thing 1"),
        concept(4, status="rejected"),
    ]
    record = names_record(concepts)
    assert [card["id"] for card in record["best"]] == [2, 3, 0]  # 1 has the name of 3
    assert record["named"] == 4
    assert (record["checked"], record["confirmed"]) == (2, 1)
    assert record["failed"][0]["id"] == 4


def test_failures_are_of_every_kind_and_few() -> None:
    rejected = [concept(n, status="rejected") for n in range(20)]
    unnamed = [
        concept(n, label=None, status="unnamed", score=None, rate={"alpha": n / 100})
        for n in range(20, 40)
    ]
    named = [concept(n, score=n / 100) for n in range(40, 80)]
    record = names_record([*rejected, *unnamed, *named])
    assert len(record["best"]) == WALL
    assert len(record["failed"]) == FAILED
    kinds = [card["status"] for card in record["failed"]]
    assert kinds == ["rejected", "unnamed", "proposed"] * 2
    assert record["failed"][1]["id"] == 39  # fires most
    assert record["failed"][2]["id"] == 40  # scores least


def test_concepts_that_never_fire_are_no_failures_of_naming() -> None:
    silent = [concept(0, label=None, status="unnamed", rate={"alpha": 0.0})]
    assert names_record(silent)["failed"] == []
