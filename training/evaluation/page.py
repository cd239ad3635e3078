"""report.html: one file that asks for nothing else, made from the report and its pictures alone.

First what a decision needs, then an appendix for engineers (docs/decisions/0009).
"""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from training.evaluation import plots
from training.evaluation.controls import CONTROLS, UNTRAINED_SAYS
from training.evaluation.decision import decision, of_ten
from training.evaluation.lines import Figures, Line
from training.evaluation.pictures import NO_PICTURES, Pictures
from training.evaluation.summary import TITLES, dictionaries, known_lines, warnings

BEST_LABELS, WORST_LABELS = 8, 4
ACCENT = (11, 74, 125)


def page(report: dict[str, Any], pictures: Pictures = NO_PICTURES) -> str:
    """The report as a web page."""
    environment = Environment(
        loader=PackageLoader("training.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "percent": _percent,
        "bytes": _bytes,
        "duration": _duration,
        "shade": _shade,
        "of_ten": of_ten,
    }
    known = {**decision(report), **_appendix(report)}
    return environment.get_template("report.html").render(
        report=report,
        dictionary=report["dictionary"],
        data=report["data"],
        untrained=report["controls"]["untrained"],
        dictionaries=dictionaries(report),
        several=len(report["dictionary"]["streams"]) > 1,
        pictures=pictures,
        top_rate=_top_rate(report),
        **known,
    )


def _appendix(report: Figures) -> dict[str, Any]:
    lines = known_lines(report)
    several = len(report["dictionary"]["streams"]) > 1
    by_title = {line.title: line for line in lines}
    return {
        "lines": lines,
        "by_title": by_title,
        "number_of": lambda title, figures: by_title[title].shown(figures),
        "percent_of": lambda title, figures, kept=False: _share(by_title[title], figures, kept),
        "main_lines": [line for line in lines if line.main],
        "warnings": warnings(report),
        "control_says": _control_says(report),
        "fvu_plot": Markup(plots.cross_fvu(report)),
        "agreement_plot": Markup(plots.agreement(report)) if several else None,
        "retrieval_plot": Markup(plots.retrieval(report)) if several else None,
        "usage_plot": Markup(plots.usage(report)),
        "labels": _labels(report),
    }


def _control_says(report: dict[str, Any]) -> list[tuple[str, str]]:
    says = {"untrained": UNTRAINED_SAYS} | {name: each.says for name, each in CONTROLS.items()}
    return [(TITLES[name], says[name]) for name in report["controls"]]


def _labels(report: dict[str, Any]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """By stream: the labels that a single concept recovers best, and worst."""
    recovery = report["independent"]["label_recovery"] or {}
    chosen = {}
    for name, each in recovery.items():
        entries = each["labels"]
        best = entries[:BEST_LABELS]
        chosen[name] = {"best": best, "worst": entries[len(best) :][-WORST_LABELS:]}
    return chosen


def _share(line: Line, figures: Figures, kept: bool) -> str:
    value = line.value(figures)
    return _percent(1 - value if kept and value is not None else value)


def _percent(share: float | None, decimals: int = 0) -> str:
    return "–" if share is None else f"{100 * share:.{decimals}f} %"


def _bytes(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.{1 if count < 10 * size else 0}f} {unit}"
    return f"{count:.0f} bytes"


def _duration(seconds: float | None) -> str:
    if seconds is None:  # an adopted dictionary was trained elsewhere
        return "unknown"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _shade(share: float | None) -> Markup:
    """Colours of a cell of the matrix: the darker the more, also in grey."""
    if share is None:
        return Markup("")
    part = 0.08 + 0.92 * min(1.0, max(0.0, share))
    ground = [round(255 - part * (255 - channel)) for channel in ACCENT]
    ink = "#fff" if part > 0.65 else "var(--ink)"
    return Markup(f"background:rgb({','.join(map(str, ground))});color:{ink}")


def _top_rate(report: Figures) -> float:
    """The highest firing rate among the concepts shown: the full width of their bars."""
    names = report["names"] or {"best": [], "failed": []}
    cards = [*names["best"], *names["failed"]]
    return max((rate for card in cards for rate in card["rate"].values()), default=1.0) or 1.0
