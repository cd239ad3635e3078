"""Intervals of a report: their estimates are the report's own figures."""

from __future__ import annotations

from typing import Any

import pytest

from koine.types import Mode
from training.evaluation.encoding import MODES
from training.evaluation.lines import LINES

LINE = {line.title: line for line in LINES}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("figure", ["active_jaccard", "active_jaccard_adjusted", "overlap", "fvu"])
def test_an_interval_lies_around_the_figure_of_the_report(
    figure: str, mode: Mode, report: dict[str, Any]
) -> None:
    intervals = report["intervals"][mode][figure]
    for key, value in report[mode][figure].items():
        # float32 sums there, float64 here
        assert intervals[key]["value"] == pytest.approx(value, rel=1e-4), key
        assert intervals[key]["low"] <= value <= intervals[key]["high"]


@pytest.mark.parametrize("mode", MODES)
def test_means_are_those_of_the_summary(mode: Mode, report: dict[str, Any]) -> None:
    intervals, figures = report["intervals"][mode], report[mode]
    for way, found in figures["retrieval"].items():
        assert intervals["retrieval"][way]["value"] == pytest.approx(found["r10"])
    for found, title in (
        (intervals["retrieval"]["mean"], "Retrieval R@10"),
        (intervals["fvu"]["own"], "FVU, own stream"),
        (intervals["fvu"]["other"], "FVU, other stream"),
    ):
        assert found["value"] == pytest.approx(LINE[title].value(figures), rel=1e-4)
