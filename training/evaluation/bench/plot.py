"""bench.png: what agreement costs in reconstruction, method by method; reads the bench alone."""

from __future__ import annotations

import io
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from training.evaluation.bench.lines import lines_of
from training.evaluation.bench.plan import OWN
from training.evaluation.plots import STYLE

Bench = dict[str, Any]
COLOURS = {
    "koine": "#0b5394",
    "sparc": "#b3261e",
    "dropout": "#e08214",
    "no_cross": "#7b3294",
    "local": "#4d9221",
    "local_no_cross": "#8c6d31",
    "hungarian": "#1b9e9e",
    "untrained": "#9a9a9a",
}
MARKERS = dict(zip(COLOURS, "osDv^P*X", strict=True))
CLIP = 1.25
"""FVU at which a point is drawn at the edge: worse than the mean by a quarter, or much more."""


def png(bench: Bench) -> bytes:
    """Agreement against cross FVU above, retrieval against own FVU below, a column a pair type."""
    kinds = list(bench["pair_types"])
    if not kinds:
        return _plain(bench)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.4 + 4.4 * len(kinds), 8.4), layout="constrained", dpi=150)
        panels = figure.subplots(2, len(kinds), squeeze=False)
        for column, kind in enumerate(kinds):
            _frontier(panels[0][column], bench, f"fvu_cross_{kind}", f"agreement_adjusted_{kind}")
            panels[0][column].set_title(f"{kind} pairs")
            panels[0][column].set_xlabel("FVU, other stream (left is better)")
            _frontier(panels[1][column], bench, "fvu_own", f"r10_{kind}")
            panels[1][column].set_xlabel("FVU, own stream (left is better)")
        panels[0][0].set_ylabel("agreement adjusted for chance")
        panels[1][0].set_ylabel("retrieval R@10")
        for panel, kind in zip(panels[1], kinds, strict=True):
            _raw_level(panel, bench, kind)
        _legend(figure, panels[0][0], panels[1][0])
        return _bytes(figure)


def _frontier(panel: Axes, bench: Bench, x_key: str, y_key: str) -> None:
    for name, each in bench["methods"].items():
        x, y = (each["summary"]["independent"][key] for key in (x_key, y_key))
        if x["mean"] is None or y["mean"] is None:
            continue
        panel.errorbar(
            min(x["mean"], CLIP),
            y["mean"],
            xerr=x["spread"],
            yerr=y["spread"],
            fmt=MARKERS[name],
            color=COLOURS[name],
            **_look(name),
            capsize=3,
            label=each["title"],
        )
    for name in dict.fromkeys(entry["method"] for entry in bench["sweep"]):
        for sizes, style in (("k", "-"), ("num_concepts", ":")):
            _sweep_line(panel, bench, name, sizes, style, x_key, y_key)
    _dial_line(panel, bench, x_key, y_key)
    panel.axhline(0, color="#bbbbbb", linewidth=0.8)
    panel.margins(0.08)


def _look(name: str) -> dict[str, Any]:
    """The run's own method is a ring, so that it hides none that lies in the same place."""
    if name == OWN:
        return {"markersize": 14, "markerfacecolor": "none", "markeredgewidth": 2, "zorder": 4}
    return {"markersize": 8, "zorder": 3}


def _sweep_line(
    panel: Axes, bench: Bench, name: str, sizes: str, style: str, x_key: str, y_key: str
) -> None:
    """One method as `sizes` varies, the other size being the run's; each point says its size."""
    other = "num_concepts" if sizes == "k" else "k"
    entries = [
        entry
        for entry in bench["sweep"]
        if entry["method"] == name and entry[other] == bench["settings"][other]
    ]
    entries.sort(key=lambda entry: entry[sizes])
    if len(entries) < 2:
        return
    run = bench["settings"][sizes]
    texts = ["" if entry[sizes] == run else _size_says(entry, sizes) for entry in entries]
    _line(panel, _points(entries, x_key, y_key), texts, style, COLOURS[name])


def _size_says(entry: dict[str, Any], sizes: str) -> str:
    return f"k {entry['k']}" if sizes == "k" else f"{entry['num_concepts']:,}"


def _dial_line(panel: Axes, bench: Bench, x_key: str, y_key: str) -> None:
    """The own method through its pre-code weights; the run's own is the ring, or near it."""
    entries = bench["frontier"]
    if len(entries) < 2:
        return
    texts = [f"w {entry['pre_code_weight']:g}" for entry in entries]
    label = "Koine at pre-code weights w"
    _line(panel, _points(entries, x_key, y_key), texts, "-.", COLOURS[OWN], label)


def _points(
    entries: list[dict[str, Any]], x_key: str, y_key: str
) -> list[tuple[float | None, float | None]]:
    means = [entry["summary"]["independent"] for entry in entries]
    return [(each[x_key]["mean"], each[y_key]["mean"]) for each in means]


def _line(
    panel: Axes,
    points: list[tuple[float | None, float | None]],
    texts: list[str],
    style: str,
    colour: str,
    label: str | None = None,
) -> None:
    """A line through points that each bear a text; none where a point is not known."""
    known = [(min(x, CLIP), y) for x, y in points if x is not None and y is not None]
    if len(known) < len(points):
        return
    x, y = zip(*known, strict=True)
    panel.plot(x, y, style, color=colour, linewidth=1.2, alpha=0.7, zorder=2, label=label)
    panel.plot(x, y, ".", color=colour, markersize=4, zorder=2)
    for text, at in zip(texts, known, strict=True):
        panel.annotate(text, at, (4, 4), textcoords="offset points", fontsize=7, color=colour)


def _raw_level(panel: Axes, bench: Bench, kind: str) -> None:
    figures = next(iter(bench["methods"].values()))["runs"][0]["figures"]["independent"]
    line = next(
        each for each in lines_of(bench["pair_types"], figures) if each.key == f"r10_{kind}"
    )
    assert line.raw is not None
    level = line.raw(bench["raw"])
    if level is not None:
        panel.axhline(level, color="#444444", linewidth=1, linestyle="--", label="Raw + ridge")


def _legend(figure: Figure, first: Axes, second: Axes) -> None:
    """Below the panels: the methods' points first, then the lines."""
    found = dict(zip(*reversed(first.get_legend_handles_labels()), strict=True))
    found |= dict(zip(*reversed(second.get_legend_handles_labels()), strict=True))
    found = dict(sorted(found.items(), key=lambda item: isinstance(item[1], Line2D)))
    columns = 4 if figure.get_figwidth() > 8 else 3
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=columns)
    figure.suptitle(
        "Independent encoding, mean and spread over seeds; lines: other k (solid),\n"
        "other numbers of concepts (dotted), other weights of pre-codes (dash-dot)",
        fontsize=9.5,
    )


def _plain(bench: Bench) -> bytes:
    """With one stream nothing can agree: own FVU alone."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 4), layout="constrained", dpi=150)
        panel = figure.subplots()
        for place, (name, each) in enumerate(bench["methods"].items()):
            fvu = each["summary"]["independent"]["fvu_own"]["mean"]
            panel.barh(place, fvu or 0, color=COLOURS[name])
        titles = [each["title"] for each in bench["methods"].values()]
        panel.set_yticks(range(len(titles)), titles)
        panel.set_xlabel("FVU, own stream (left is better)")
        return _bytes(figure)


def _bytes(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()
