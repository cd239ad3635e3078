"""The report in the words of who decides on it: what the page's first part shows; measures nothing.

Independent figures lead; where a joint one is shown, the untrained dictionary's stands beside it.
"""

from __future__ import annotations

from itertools import permutations
from typing import Any, NamedTuple

from training.evaluation.guard import plain_warnings
from training.evaluation.lines import Figures, mean

SHOWN_PAIRS = 3
"""Pairs of streams whose disagreement is shown: those that agree least."""
FEW_ITEMS = 300
"""Held-out items below which the page says that they are few."""
SYMBOLS = {"pass": "✓", "fail": "✗", "not measured": "?"}


class Bar(NamedTuple):
    """A share as a bar, with its interval and what it is held against."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    chance: float | None = None
    untrained: float | None = None

    def said(self) -> str:
        """Value and interval as text."""
        if self.value is None:
            return "–"
        if self.low is None or self.high is None:
            return f"{self.value:.0%}"
        return f"{self.value:.0%} ({self.low:.0%} to {self.high:.0%})"


class Cell(NamedTuple):
    """Of ten concepts of the row's stream, how many the column's has."""

    value: float | None
    chance: float | None


def decision(report: Figures) -> dict[str, Any]:
    """Everything that the page's first part shows, by the template's names."""
    lines = report["checklist"]["lines"]
    results = [line["result"] for line in lines]
    return {
        "verdict": report["checklist"]["verdict"],
        "tally": {name: results.count(name) for name in SYMBOLS},
        "symbols": SYMBOLS,
        "sentences": sentences(report),
        "checks": [{**line, **line_texts(line)} for line in lines],
        "matrix": _matrix(report),
        "rebuilt": _rebuilt(report),
        "overlaps": _overlaps(report),
        "found": _found(report),
        "named": _named(report),
        "apart": _apart(report),
        "plain_warnings": plain_warnings(
            report["independent"], report["dictionary"]["num_concepts"]
        ),
        "few": report["data"]["held_out_rows"] < FEW_ITEMS,
        "cost": report["cost"],
    }


def verdict_line(report: Figures) -> str:
    """The last line on the console: the verdict and what it hangs on."""
    lines = report["checklist"]["lines"]
    parts = [f"{len(lines)} questions"]
    for result, words in (("fail", "failed"), ("not measured", "not measured")):
        names = [line["name"] for line in lines if line["result"] == result]
        if names:
            parts.append(f"{words}: {', '.join(names)}")
    return f"{report['checklist']['verdict']} ({'; '.join(parts)})"


def sentences(report: Figures) -> list[str]:
    """Three, in this order: do they share, can people read it, what stands in the way."""
    return [_shared_sentence(report), _named_sentence(report), _way_sentence(report)]


def of_ten(share: float | None) -> str:
    """A share as "of ten", one decimal."""
    return "–" if share is None else f"{10 * share:.1f}"


def amount(value: float, unit: str, more: int = 0) -> str:
    """A figure or threshold of the checklist as text, with `more` decimals than usual."""
    if unit == "%":
        return f"{100 * value:.{more}f} %"
    if value == int(value):
        return f"{value:,.0f}"
    return f"{value:.{2 + more}f}" if abs(value) < 10 else f"{value:,.{more}f}"


def line_texts(line: dict[str, Any]) -> dict[str, str]:
    """`found`, `between` and `wanted` of a line of the checklist, as text."""
    unit = line["unit"]
    figures = [line[key] for key in ("value", "low", "high") if line[key] is not None]
    # so near the threshold, a rounded figure may seem to lie on its other side
    near = any(0 < abs(figure - line["threshold"]) < 0.01 for figure in figures)
    texts = [amount(figure, unit, more=int(near)) for figure in figures]
    found, between = texts[0] if texts else "–", " to ".join(texts[1:])
    wanted = f"{line['bound']} {amount(line['threshold'], unit)}"
    return {"found": found, "between": between, "wanted": wanted}


def _shared_sentence(report: Figures) -> str:
    own, free = report["independent"], report["controls"]["untrained"]
    if own["overlap"]["mean"] is None:
        return "There are no two models with items in common here, so there is nothing to share."
    return (
        f"Of 10 concepts that one model sees in an item, another one sees "
        f"{of_ten(own['overlap']['mean'])} too, each looking alone as in production; between "
        f"unrelated items it is {of_ten(own['overlap_shuffled']['mean'])}, without training "
        f"{of_ten(free['independent']['overlap']['mean'])}. (Choosing together they share "
        f"{of_ten(report['joint']['overlap']['mean'])}, untrained models "
        f"{of_ten(free['joint']['overlap']['mean'])}: that is built in and proves nothing.)"
    )


def _named_sentence(report: Figures) -> str:
    size, names = report["dictionary"]["num_concepts"], report["names"]
    if names is None:
        return f"Not one of the {size:,} concepts has a name yet, so people cannot read the codes."
    if names["checked"] == 0:
        checked = "nobody has checked one yet"
    else:
        checked = f"people have checked {names['checked']:,} and stand for {names['confirmed']:,}"
    return f"{names['named']:,} of the {size:,} concepts have a name; {checked}."


def _way_sentence(report: Figures) -> str:
    lines = report["checklist"]["lines"]
    failed = [line for line in lines if line["result"] == "fail"]
    missing = [line for line in lines if line["result"] == "not measured"]
    close = [line for line in lines if line["certain"] is False]
    said = []
    if failed:
        parts = [f"{x['short']} ({_against(x)})" for x in failed]
        said.append(f"What stands in the way: {'; '.join(parts)}.")
    if missing:
        said.append(f"Not measured yet: {_names(missing)}.")
    if not lines:
        said.append("No question was asked.")
    elif not said:
        said.append(f"All {len(lines)} questions are answered as they should be.")
    if close:
        said.append(f"Close calls, which other items might decide otherwise: {_names(close)}.")
    return " ".join(said)


def _names(lines: list[dict[str, Any]]) -> str:
    return ", ".join(line["short"] for line in lines)


def _against(line: dict[str, Any]) -> str:
    texts = line_texts(line)
    return f"{texts['found']}, asked {texts['wanted']}"


def _matrix(report: Figures) -> dict[str, dict[str, Cell]]:
    streams, own = list(report["dictionary"]["streams"]), report["independent"]
    return {
        a: {
            b: Cell(own["overlap"].get(f"{a}->{b}"), own["overlap_shuffled"].get(f"{a}->{b}"))
            for b in streams
        }
        for a in streams
    }


def _rebuilt(report: Figures) -> list[dict[str, Any]]:
    """For each stream: how much of it its own codes keep, and those of the others."""
    streams, found = list(report["dictionary"]["streams"]), []
    for name in streams:
        others = [f"{other}->{name}" for other in streams if other != name]
        found.append(
            {
                "stream": name,
                "own": _kept(report, "from its own concepts", [f"{name}->{name}"]),
                "other": _kept(report, "from the other models'", others) if others else None,
            }
        )
    return found


def _kept(report: Figures, name: str, ways: list[str]) -> Bar:
    """1 - FVU, mean over ways; nothing is kept where the codes do worse than the mean."""

    def kept(figures: Figures) -> float | None:
        lost = mean(figures["fvu"][way] for way in ways)
        return None if lost is None else max(0.0, 1 - lost)

    untrained = report["controls"]["untrained"]["independent"]
    return Bar(name, kept(report["independent"]), untrained=kept(untrained))


def _overlaps(report: Figures) -> list[Bar]:
    return [
        _bar(report, way, "overlap", report["independent"]["overlap_shuffled"].get(way))
        for way in _ways(report)
    ]


def _found(report: Figures) -> list[Bar]:
    chances = report["independent"]["retrieval_chance"]
    return [_bar(report, way, "retrieval", chances[way]["r10"]) for way in _ways(report)]


def _bar(report: Figures, way: str, figure: str, chance: float | None) -> Bar:
    def value(figures: Figures) -> float | None:
        found = figures[figure].get(way)
        return found["r10"] if isinstance(found, dict) else found

    interval = report["intervals"]["independent"][figure].get(way) or {}
    untrained = report["controls"]["untrained"]
    return Bar(
        way.replace("->", " → "),
        value(report["independent"]),
        interval.get("low"),
        interval.get("high"),
        chance,
        value(untrained["independent"]),
    )


def _ways(report: Figures) -> list[str]:
    return [f"{a}->{b}" for a, b in permutations(report["dictionary"]["streams"], 2)]


def _named(report: Figures) -> list[dict[str, Any]]:
    """Parts of the bar of names: status, concepts, share; in the order of trust."""
    names, size = report["names"], report["dictionary"]["num_concepts"]
    if names is None:
        return []
    order = ("verified", "renamed", "proposed", "rejected", "unnamed")
    return [
        {"status": status, "concepts": names["status"][status]}
        | {"share": names["status"][status] / size}
        for status in order
    ]


def _apart(report: Figures) -> dict[str, dict[str, Any]]:
    """The pairs that agree least, as the report has them."""
    agreement = report["independent"]["active_jaccard_adjusted"]
    known = {k: v for k, v in report["disagreement"].items() if agreement.get(k) is not None}
    order = sorted(known, key=lambda pair: agreement[pair])
    return {pair: {**known[pair], "agreement": agreement[pair]} for pair in order[:SHOWN_PAIRS]}
