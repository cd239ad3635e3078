"""The collapse guard: silent on sound figures, one sentence for each that parts from agreement."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from training.evaluation.guard import collapse_warnings

SOUND: dict[str, Any] = {
    "active_jaccard_adjusted": {"mean": 0.5},
    "active_jaccard_shuffled": {"mean": 0.05},
    "usage": {"x": 60.0, "y": None},
    "latents": {"dead": 2},
    "fvu": {"x->x": 0.3, "y->x": 0.6, "x->y": 0.6, "y->y": None},
}


def changed(key: str, inner: str, value: Any) -> dict[str, Any]:
    figures = copy.deepcopy(SOUND)
    figures[key][inner] = value
    return figures


def test_sound_figures_give_no_warning() -> None:
    assert collapse_warnings(SOUND, 100) == []


@pytest.mark.parametrize(
    ("key", "inner", "value", "words"),
    [
        ("usage", "x", 24.0, "`x` really uses only 24 of 100"),
        ("latents", "dead", 6, "6 of 100 concepts .6%. never fire"),
        ("active_jaccard_shuffled", "mean", 0.16, "Jaccard 0.16 between unrelated"),
        ("fvu", "x->x", 0.95, "its own codes rebuild `x` hardly better"),
        ("fvu", "x->y", 1.1, "other streams' codes rebuild `y` hardly better"),
    ],
)
def test_each_figure_that_parts_is_named(key: str, inner: str, value: Any, words: str) -> None:
    said = collapse_warnings(changed(key, inner, value), 100)
    assert len(said) == 1
    assert said[0].startswith("Adjusted agreement is 0.50, but ")
    assert re.search(words, said[0])


@pytest.mark.parametrize("agreement", [None, 0.1])
def test_without_agreement_there_is_nothing_to_mistrust(agreement: float | None) -> None:
    figures = changed("latents", "dead", 90) | {"active_jaccard_adjusted": {"mean": agreement}}
    assert collapse_warnings(figures, 100) == []
