"""report.html: one file that asks for nothing else, made from the report alone."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from training.evaluation import plots
from training.evaluation.controls import CONTROLS, UNTRAINED_SAYS
from training.evaluation.summary import TITLES, dictionaries, known_lines, warnings

BEST_LABELS, WORST_LABELS = 8, 4


def page(report: dict[str, Any]) -> str:
    """The report as a web page."""
    environment = Environment(
        loader=PackageLoader("training.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    several = len(report["dictionary"]["streams"]) > 1
    lines = known_lines(report)
    return environment.get_template("report.html").render(
        report=report,
        dictionary=report["dictionary"],
        data=report["data"],
        untrained=report["controls"]["untrained"],
        lines=lines,
        by_title={line.title: line for line in lines},
        main_lines=[line for line in lines if line.main],
        dictionaries=dictionaries(report),
        warnings=warnings(report),
        control_says=_control_says(report),
        several=several,
        fvu_plot=Markup(plots.cross_fvu(report)),
        agreement_plot=Markup(plots.agreement(report)) if several else None,
        retrieval_plot=Markup(plots.retrieval(report)) if several else None,
        usage_plot=Markup(plots.usage(report)),
        labels=_labels(report),
    )


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
