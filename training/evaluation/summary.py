"""The report's main figures in a reader's words, for the console and the page; measures nothing."""

from __future__ import annotations

from training.evaluation.controls import CONTROLS, UNTRAINED_TITLE
from training.evaluation.guard import collapse_warnings
from training.evaluation.lines import LINES, Figures, Line

TITLES = {
    "this": "This dictionary",
    "untrained": UNTRAINED_TITLE,
    **{name: control.title for name, control in CONTROLS.items()},
}


def known_lines(report: Figures) -> list[Line]:
    """The lines that this report has a value for."""
    return [
        line
        for line in LINES
        if any(line.value(report[mode]) is not None for mode in ("joint", "independent"))
    ]


def dictionaries(report: Figures) -> dict[str, Figures]:
    """Title → `joint` and `independent` figures: this run first, then its controls."""
    controls: Figures = report["controls"]
    return {TITLES["this"]: report} | {TITLES[name]: each for name, each in controls.items()}


def warnings(report: Figures) -> list[str]:
    """Where this dictionary's alignment looks better than it is, in sentences."""
    return collapse_warnings(report["independent"], report["dictionary"]["num_concepts"])


def console(report: Figures) -> str:
    """Tables for a terminal; independent figures always stand beside joint ones."""
    lines = known_lines(report)
    untrained = report["controls"]["untrained"]
    head = ["", "independent", "joint", "untrained: independent", "joint"]
    rows = [
        [line.title, *(line.shown(each[mode]) for each in (report, untrained) for mode in _MODES)]
        for line in lines
    ]
    text = _table(head, rows)
    if len(report["controls"]) > 1:
        main = [line for line in lines if line.main]
        head = ["", "encoding", *(line.short for line in main)]
        rows = [
            [
                title if mode == "independent" else "",
                mode,
                *(line.shown(each[mode]) for line in main),
            ]
            for title, each in dictionaries(report).items()
            for mode in _MODES
        ]
        text += "\n\n" + _table(head, rows)
    return "\n\n".join([text, *(f"WARNING: {each}" for each in warnings(report))])


_MODES = ("independent", "joint")


def _table(head: list[str], rows: list[list[str]]) -> str:
    cells = [head, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        ).rstrip()
        for row in cells
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)
