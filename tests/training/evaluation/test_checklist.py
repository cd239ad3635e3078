"""Go or no-go: each question held against its threshold, and what the verdict hangs on."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest

from koine.errors import RequestError
from tests.training.evaluation.test_names import concept
from training.evaluation.checklist import QUESTIONS, checklist, override
from training.evaluation.decision import verdict_line
from training.evaluation.names import names_record
from training.recipes import RECIPES, Thresholds

NOTHING = override(Thresholds(), dict.fromkeys(QUESTIONS, "off"))


def asked(report: dict[str, Any], **thresholds: float) -> dict[str, Any]:
    """The only line of a checklist with one question."""
    (line,) = checklist(report, dataclasses.replace(NOTHING, **thresholds))["lines"]
    return line


def test_every_threshold_has_its_question() -> None:
    assert list(QUESTIONS) == [field.name for field in dataclasses.fields(Thresholds)]
    for recipe in RECIPES.values():
        assert isinstance(recipe().thresholds, Thresholds)


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_passes_on_one_side_and_fails_on_the_other(
    name: str, report: dict[str, Any]
) -> None:
    full = with_names(report)
    full["cost"]["served"] = {"items_per_second": {"alpha": 20.0, "beta": 10.0}}
    value = asked(full, **{name: 0.0})["value"]
    sign = 1 if QUESTIONS[name].bound == "at least" else -1
    assert asked(full, **{name: value - sign * 0.01})["result"] == "pass"
    assert asked(full, **{name: value})["result"] == "pass"
    assert asked(full, **{name: value + sign * 0.01})["result"] == "fail"


def test_what_is_missing_is_said_with_what_would_give_it(report: dict[str, Any]) -> None:
    for name, words in (
        ("named", "run `name`"),
        ("checked", "run `name`"),
        ("items_per_second", "run `export`"),
    ):
        line = asked(report, **{name: 0.5})
        assert (line["result"], line["value"]) == ("not measured", None)
        assert words in line["note"]
    alone = copy.deepcopy(report)
    alone["controls"] = {"untrained": report["controls"]["untrained"]}
    assert "--controls" in asked(alone, over_controls=0.0)["note"]


def test_a_threshold_inside_the_interval_is_a_close_call(report: dict[str, Any]) -> None:
    line = asked(report, agreement=0.0)
    assert line["certain"]
    assert line["low"] < line["value"] < line["high"]
    assert not asked(report, agreement=(line["low"] + line["value"]) / 2)["certain"]
    assert asked(report, agreement=line["high"] + 0.01)["certain"]


def test_the_verdict_is_go_only_if_all_is_measured_and_passes(report: dict[str, Any]) -> None:
    def verdict(**thresholds: float) -> str:
        return checklist(report, dataclasses.replace(NOTHING, **thresholds))["verdict"]

    assert verdict(agreement=0.0) == "GO"
    assert verdict(agreement=0.0, named=0.5) == "INCOMPLETE"
    assert verdict(agreement=0.99, named=0.5) == "NO-GO"
    assert verdict() == "INCOMPLETE"  # nothing was asked


def test_without_thresholds_given_the_report_asks_the_defaults(report: dict[str, Any]) -> None:
    asked = {line["name"]: line["threshold"] for line in report["checklist"]["lines"]}
    known = dataclasses.asdict(Thresholds())
    assert asked == {name: value for name, value in known.items() if value is not None}
    line = verdict_line(report)
    assert line.startswith("NO-GO (11 questions; failed: items")
    assert "not measured: named, checked, confirmed" in line


def test_thresholds_are_laid_over_the_recipes() -> None:
    changed = override(Thresholds(), {"agreement": ".5", "named": "off"})
    assert (changed.agreement, changed.named) == (0.5, None)
    assert changed.dead == Thresholds().dead
    for given, words in (
        ({"agrement": ".5"}, "unknown threshold 'agrement'; there are items, agreement"),
        ({"agreement": "much"}, "must be a number or `off`, got 'much'"),
        ({"agreement": "nan"}, "must be a number or `off`, got 'nan'"),
    ):
        with pytest.raises(RequestError, match=words):
            override(Thresholds(), given)


def test_people_decide_on_a_sample(report: dict[str, Any]) -> None:
    full = with_names(report)
    checked, confirmed = asked(full, checked=0.1), asked(full, confirmed=0.5)
    assert (checked["value"], checked["note"]) == (3 / 5, "3 of 5")
    assert confirmed["value"] == pytest.approx(2 / 3)
    assert confirmed["low"] < 2 / 3 < confirmed["high"]
    nobody = copy.deepcopy(full)
    nobody["names"] |= {"checked": 0, "confirmed": 0}
    for name in ("checked", "confirmed"):
        line = asked(nobody, **{name: 0.5})
        assert line["result"] == "not measured"
        assert line["note"] == "nobody has checked a name yet"


def with_names(report: dict[str, Any]) -> dict[str, Any]:
    """The report with five named concepts of which people rejected one."""
    statuses = ["verified", "renamed", "rejected", "proposed", "proposed"]
    named = [concept(number, status=status) for number, status in enumerate(statuses)]
    rest = [concept(number, label=None, status="unnamed") for number in range(5, 40)]
    return copy.deepcopy(report) | {"names": names_record([*named, *rest])}
