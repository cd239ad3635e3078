"""Go or no-go: each threshold held against what was measured; measures nothing itself.

A figure passes by its own value; where its interval reaches over the threshold, that is said.
NO-GO if anything fails, else INCOMPLETE if anything was not measured, else GO.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from scipy.stats import binomtest

from koine.errors import RequestError
from training.evaluation.bootstrap import LEVEL
from training.evaluation.lines import Figures, mean
from training.evaluation.summary import warnings
from training.recipes import Thresholds

Result = Literal["pass", "fail", "not measured"]
OFF = "off"


class Measured(NamedTuple):
    """A figure with its interval where it has one; None with what would give it."""

    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""
    """Of what, or why it is missing and what to do."""


class Question(NamedTuple):
    """A line of the checklist."""

    asks: str
    """In words that need no knowledge of the measure."""
    short: str
    """What it is about, in few words."""
    bound: Literal["at least", "at most"]
    unit: Literal["", "%"] = ""


QUESTIONS: dict[str, Question] = {
    "items": Question(
        "Was it judged on enough items that it has not seen?",
        "too few items to judge on",
        "at least",
    ),
    "agreement": Question(
        "Do the models see the same concepts in an item, beyond chance? (0 chance, 1 the same)",
        "agreement between the models",
        "at least",
    ),
    "weakest_agreement": Question(
        "… also the two models that agree least?",
        "agreement of the weakest pair",
        "at least",
    ),
    "retrieval_of_raw": Question(
        "Do concepts find an item in another model as well as the models' own numbers do?",
        "finding items across models",
        "at least",
        "%",
    ),
    "own_fvu": Question(
        "How much of a model is lost in its own concepts?",
        "loss in a model's own concepts",
        "at most",
        "%",
    ),
    "other_fvu": Question(
        "How much of a model is lost when it is rebuilt from another one's concepts?",
        "loss from model to model",
        "at most",
        "%",
    ),
    "dead": Question(
        "How many concepts never occur?",
        "concepts that never occur",
        "at most",
        "%",
    ),
    "warnings": Question(
        "Does anything say that the agreement is too cheap?",
        "warnings about cheap agreement",
        "at most",
    ),
    "named": Question(
        "How many of the concepts in use have a name?",
        "concepts with a name",
        "at least",
        "%",
    ),
    "checked": Question(
        "How many of the names has a person looked at?",
        "names that people checked",
        "at least",
        "%",
    ),
    "confirmed": Question(
        "How many of those did people stand for?",
        "names that people stand for",
        "at least",
        "%",
    ),
    "over_controls": Question(
        "Is it better than the best simpler method?",
        "gain over simpler methods",
        "at least",
    ),
    "items_per_second": Question(
        "Is the slowest model fast enough here, in items a second?",
        "speed",
        "at least",
    ),
}
"""One for each field of `Thresholds`, in the order of the page."""


def override(thresholds: Thresholds, given: Mapping[str, str]) -> Thresholds:
    """Thresholds with those from the command line laid over them; `off` leaves a question out.

    Raises RequestError for an unknown name or something that is no number.
    """
    return dataclasses.replace(thresholds, **{n: _threshold(n, text) for n, text in given.items()})


def _threshold(name: str, text: str) -> float | None:
    if name not in QUESTIONS:
        raise RequestError(f"unknown threshold {name!r}; there are {', '.join(QUESTIONS)}")
    if text == OFF:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise RequestError(f"the threshold `{name}` must be a number or `{OFF}`, got {text!r}")
    return value


def checklist(report: Figures, thresholds: Thresholds) -> dict[str, Any]:
    """The report's `checklist`: `verdict`, and a record for each question that is asked."""
    lines = []
    for name, question in QUESTIONS.items():
        threshold = getattr(thresholds, name)
        if threshold is None:
            continue
        measured = _MEASURES[name](report)
        lines.append(
            {"name": name, **question._asdict(), "threshold": threshold, **measured._asdict()}
            | _judged(measured, threshold, question.bound)
        )
    return {"verdict": _verdict([line["result"] for line in lines]), "lines": lines}


def _judged(measured: Measured, threshold: float, bound: str) -> dict[str, Any]:
    """`result`, and whether the whole interval lies on the same side."""
    if measured.value is None:
        return {"result": "not measured", "certain": None}
    sign = 1 if bound == "at least" else -1
    ends = [measured.low, measured.high]
    certain = len({sign * end >= sign * threshold for end in ends if end is not None}) < 2
    passes = sign * measured.value >= sign * threshold
    return {"result": "pass" if passes else "fail", "certain": certain}


def _verdict(results: list[Result]) -> str:
    if "fail" in results:
        return "NO-GO"
    return "INCOMPLETE" if "not measured" in results or not results else "GO"


def _interval(report: Figures, figure: str, key: str, note: str = "") -> Measured:
    found = report["intervals"]["independent"][figure].get(key)
    return Measured(**found, note=note) if found else _one_stream()


def _one_stream() -> Measured:
    return Measured(None, note="needs items that two streams have")


def _weakest(report: Figures) -> Measured:
    pairs = report["intervals"]["independent"]["active_jaccard_adjusted"]
    known = {pair: each for pair, each in pairs.items() if each and pair != "mean"}
    if not known:
        return _one_stream()
    pair = min(known, key=lambda pair: known[pair]["value"])
    return Measured(**known[pair], note=" and ".join(pair.split("|")))


def _retrieval_of_raw(report: Figures) -> Measured:
    ways = report["raw"]["retrieval"]
    raw = mean(each["ridge"] and each["ridge"]["r10"] for each in ways.values())
    found = report["intervals"]["independent"]["retrieval"]["mean"]
    if not raw or not found:
        return _one_stream()
    shares = {key: value / raw for key, value in found.items()}
    return Measured(**shares, note=f"R@10 {found['value']:.2f} of {raw:.2f}")


def _dead(report: Figures) -> Measured:
    dead, size = report["independent"]["latents"]["dead"], report["dictionary"]["num_concepts"]
    return Measured(dead / size, note=f"{dead:,} of {size:,}")


def _share(report: Figures, part: str, whole: str) -> Measured:
    """Of named concepts; with an interval (Wilson) where people checked a sample of them."""
    names = report["names"]
    if names is None:
        return Measured(None, note="no concept is named yet: run `name`")
    if part != "named" and names["checked"] == 0:
        return Measured(None, note="nobody has checked a name yet")
    alive = report["dictionary"]["num_concepts"] - report["independent"]["latents"]["dead"]
    total = {
        "in_use": alive,
        "named": names["named"] + names["status"]["rejected"],
        "checked": names["checked"],
    }[whole]
    count = names[part]
    if total == 0:
        return Measured(None, note="no concept has a name")
    note = f"{count:,} of {total:,}"
    if part != "confirmed":
        return Measured(count / total, note=note)
    ends = binomtest(count, total).proportion_ci(LEVEL, method="wilson")
    return Measured(count / total, float(ends.low), float(ends.high), note)


def _over_controls(report: Figures) -> Measured:
    trained = {
        name: each["independent"]["active_jaccard_adjusted"]["mean"]
        for name, each in report["controls"].items()
        if name != "untrained"
    }
    known = {name: value for name, value in trained.items() if value is not None}
    own = report["intervals"]["independent"]["active_jaccard_adjusted"].get("mean")
    if not known or not own:
        return Measured(None, note="fit the baselines with `evaluate --controls`")
    best = max(known, key=lambda name: known[name])
    over = {key: value - known[best] for key, value in own.items()}
    return Measured(**over, note=f"{best} reaches {known[best]:.2f}")


def _speed(report: Figures) -> Measured:
    served = report["cost"]["served"]
    if served is None:
        return Measured(None, note="needs the artifact: run `export`, then evaluate again")
    slowest = min(served["items_per_second"], key=lambda name: served["items_per_second"][name])
    return Measured(served["items_per_second"][slowest], note=slowest)


_MEASURES = {
    "items": lambda report: Measured(float(report["data"]["held_out_rows"])),
    "agreement": lambda report: _interval(report, "active_jaccard_adjusted", "mean"),
    "weakest_agreement": _weakest,
    "retrieval_of_raw": _retrieval_of_raw,
    "own_fvu": lambda report: _interval(report, "fvu", "own"),
    "other_fvu": lambda report: _interval(report, "fvu", "other"),
    "dead": _dead,
    "warnings": lambda report: Measured(float(len(warnings(report)))),
    "named": lambda report: _share(report, "named", "in_use"),
    "checked": lambda report: _share(report, "checked", "named"),
    "confirmed": lambda report: _share(report, "confirmed", "checked"),
    "over_controls": _over_controls,
    "items_per_second": _speed,
}
