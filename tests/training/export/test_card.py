"""The model card: the hub reads it, joint figures never stand alone, labels do no harm."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from koine.artifact import Artifact
from koine.concepts import Concept
from koine.manifest import CARD, PROFILE, Manifest
from koine.profile import StreamProfile, read_profile
from tests.hub import local_hub
from tests.tiny import tiny_draft
from training.export.artifact import staged, write_artifact
from training.export.card import model_card

FIGURES = {
    "joint.active_jaccard.mean": 1.0,
    "independent.active_jaccard.mean": 0.47,
    "joint.fvu.tiny_a->tiny_a": 0.5,
    "independent.fvu.tiny_a->tiny_a": 0.55,
    "independent.fvu.tiny_a->tiny_b": 0.7,
    "joint.retrieval.tiny_a->tiny_b.r1": 0.99,
    "independent.retrieval.tiny_a->tiny_b.r1": 0.85,
}


@pytest.fixture
def evaluated(tiny_artifact: Artifact) -> Manifest:
    return tiny_artifact.manifest.model_copy(update={"metrics": FIGURES})


@pytest.fixture
def profile(tiny_artifact: Artifact) -> Mapping[str, StreamProfile]:
    return read_profile(tiny_artifact.file(PROFILE)).streams


def test_the_hub_reads_and_validates_it(
    evaluated: Manifest, profile: Mapping[str, StreamProfile], monkeypatch: pytest.MonkeyPatch
) -> None:
    card: Any = ModelCard(model_card(evaluated, profile, []))
    with local_hub(monkeypatch):
        card.validate(repo_type="model")
    assert card.data.library_name == "koine"
    assert card.data.license == "unknown"
    assert {"image", "text", "vector", "koine"} <= set(card.data.tags or [])
    results = card.data.eval_results or []
    assert {result.metric_type for result in results} == {
        key for key in FIGURES if key.startswith("independent.")
    }
    assert all(result.task_type == "feature-extraction" for result in results)


def test_joint_figures_stand_beside_independent_ones_only(
    evaluated: Manifest, profile: Mapping[str, StreamProfile]
) -> None:
    text = model_card(evaluated, profile, [])
    assert "| R@1, `tiny_a->tiny_b` | 0.85 | 0.99 |" in text
    assert "| variance unexplained, `tiny_a->tiny_b` | 0.7 |  |" in text
    only_joint = {k: v for k, v in FIGURES.items() if k.startswith("joint.")}
    alone = evaluated.model_copy(update={"metrics": only_joint})
    assert "0.99" not in model_card(alone, profile, [])


def test_an_artifacts_own_card_says_what_is_not_known(tiny_artifact: Artifact) -> None:
    text = tiny_artifact.file(CARD).read_text()
    assert "No concept is named" in text
    assert "`tiny_text` | text | 20 | timm t | `sha256:" in text
    assert "not recorded" in text
    ModelCard(text)


def test_named_concepts_are_listed_best_first_and_cannot_break_the_table(
    evaluated: Manifest, profile: Mapping[str, StreamProfile]
) -> None:
    concepts = [
        Concept(id=0, label="a | b\nc", status="proposed", score=0.4, rate={"tiny_a": 0.25}),
        Concept(id=1, label="grass", status="verified", score=0.9, rate={"tiny_a": 0.5}),
        Concept(id=2),
    ]
    text = model_card(evaluated, profile, concepts)
    assert "1 proposed, 1 unnamed, 1 verified. The 2 with the best score" in text
    first, second = (
        text.index("| 1 | grass | verified | 0.90 | 50.00% `tiny_a` |"),
        text.index("| 0 | a \\| b c | proposed | 0.40 |"),
    )
    assert first < second


def test_equal_runs_give_equal_cards(tmp_path: Path) -> None:
    draft = dataclasses.replace(tiny_draft(tmp_path), backbones={})  # nothing in a card is of them
    cards = []
    for name in ("one", "two"):
        again = dataclasses.replace(draft, reference=list(tiny_draft(tmp_path).reference))
        with staged(tmp_path / name) as folder:
            cards.append(write_artifact(folder, again).file(CARD).read_text())
    assert cards[0] == cards[1]
