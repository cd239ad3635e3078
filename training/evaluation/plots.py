"""The report's plots as inline SVG; each reads the report alone."""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.evaluation.latents import RATE_EDGES

Report = dict[str, Any]

JOINT, INDEPENDENT, UNTRAINED, CHANCE = "#9cc4e4", "#0b5394", "#c7c7c7", "#b3261e"
STREAM_COLOURS = ("#0b5394", "#e08214", "#4d9221", "#7b3294", "#636363", "#c51b7d")
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib; the page's own font replaces it
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: it can be searched, selected and scaled
    "svg.hashsalt": "koine",  # the same report gives the same bytes
}
WIDTH = 9.6


def agreement(report: Report) -> str:
    """Active Jaccard per pair of streams, with the level of shuffled pairs marked."""
    figures = _named_modes(report)
    pairs = [pair for pair in report["joint"]["active_jaccard"] if pair != "mean"]
    values = {name: [each["active_jaccard"][p] for p in pairs] for name, each in figures.items()}
    chance = {
        name: [each["active_jaccard_shuffled"][p] for p in pairs] for name, each in figures.items()
    }
    labels = [pair.replace("|", "  |  ") for pair in pairs]
    return _bars(labels, values, chance, "mean Jaccard of the active concepts", "shuffled pairs")


def retrieval(report: Report, cutoff: str = "r10") -> str:
    """Retrieval per direction, with the level of a random order marked."""
    figures = _named_modes(report)
    ways = list(report["joint"]["retrieval"])
    values = {name: [each["retrieval"][w][cutoff] for w in ways] for name, each in figures.items()}
    chance = {
        name: [each["retrieval_chance"][w][cutoff] for w in ways] for name, each in figures.items()
    }
    labels = [way.replace("->", "  →  ") for way in ways]
    says = f"share of items found among the first {cutoff[1:]}"
    return _bars(labels, values, chance, says, "random order")


def cross_fvu(report: Report) -> str:
    """FVU of every stream rebuilt from every stream's codes: joint, independent, untrained."""
    streams = list(report["dictionary"]["streams"])
    figures = _named_modes(report)
    size = len(streams)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.5 + 0.55 * max(3, size)), layout="constrained")
        axes = figure.subplots(1, len(figures), sharey=True, squeeze=False)[0]
        for panel, (name, each) in zip(axes, figures.items(), strict=True):
            fvu = [[each["fvu"][f"{a}->{b}"] for b in streams] for a in streams]
            _heat(panel, np.array(fvu, float), streams)
            panel.set_title(name)
        axes[0].set_ylabel("codes from")
        figure.supxlabel("stream rebuilt", fontsize=9.5)
        return _svg(figure)


def usage(report: Report) -> str:
    """How often latents fire, stream by stream, joint beside independent."""
    streams = list(report["dictionary"]["streams"])
    percents = [f"{100 * edge:g}" for edge in RATE_EDGES]
    ranges = [f"{low}–{high} %" for low, high in zip(percents, percents[1:], strict=False)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        for panel, mode in zip(axes, ("independent", "joint"), strict=True):
            for place, name in enumerate(streams):
                counts = report[mode]["firing_rates"][name]
                width = 0.8 / len(streams)
                x = np.arange(len(counts)) + (place - (len(streams) - 1) / 2) * width
                colour = STREAM_COLOURS[place % len(STREAM_COLOURS)]
                panel.bar(x, counts, width, color=colour, label=name)
            labels = ["never", *ranges]
            panel.set_xticks(range(len(labels)), labels, rotation=40, ha="right")
            panel.set_title(mode)
        axes[0].set_ylabel("latents")
        axes[1].legend()
        figure.supxlabel("share of training items on which a latent is active", fontsize=9.5)
        return _svg(figure)


def _named_modes(report: Report) -> dict[str, Report]:
    untrained = report["controls"]["untrained"]
    return {
        "independent": report["independent"],
        "joint": report["joint"],
        "untrained, independent": untrained["independent"],
        "untrained, joint": untrained["joint"],
    }


_COLOURS = {
    "joint": JOINT,
    "independent": INDEPENDENT,
    "untrained, joint": "#e4e4e4",
    "untrained, independent": "#a6a6a6",
}


def _bars(
    labels: list[str],
    values: dict[str, list[float | None]],
    chance: dict[str, list[float | None]],
    says: str,
    chance_name: str,
) -> str:
    """Horizontal bars in groups, each with its chance level as a tick."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.9 + 0.78 * max(1, len(labels))), layout="constrained")
        panel = figure.subplots()
        height = 0.8 / len(values)
        for place, (name, each) in enumerate(values.items()):
            y = np.arange(len(labels)) + (place - (len(values) - 1) / 2) * height
            lengths = np.array(each, float)
            panel.barh(y, np.nan_to_num(lengths), height * 0.92, color=_COLOURS[name], label=name)
            marks = np.array(chance[name], float)
            for at, length, mark in zip(y, lengths, marks, strict=True):
                text = "–" if np.isnan(length) else f"{length:.2f}"
                end = np.nanmax([0, length, mark])
                panel.text(end + 0.008, at, text, va="center", fontsize=8.5)
            label = chance_name if place == 0 else "_"
            half = height * 0.46
            panel.vlines(marks, y - half, y + half, color=CHANCE, linewidth=2, label=label)
        panel.set_yticks(range(len(labels)), labels)
        panel.invert_yaxis()
        panel.set_xlim(0, 1.05)
        panel.set_xlabel(says)
        figure.legend(loc="outside upper center", ncols=len(values) + 1)
        return _svg(figure)


def _heat(panel: Axes, fvu: np.ndarray, streams: list[str]) -> None:
    panel.imshow(fvu, cmap="YlOrRd", vmin=0, vmax=1.25, aspect="auto")
    for row in range(len(streams)):
        for column in range(len(streams)):
            value = fvu[row, column]
            text = "–" if np.isnan(value) else f"{value:.2f}"
            colour = "white" if value > 0.8 else "black"
            panel.text(column, row, text, ha="center", va="center", color=colour)
    panel.set_xticks(range(len(streams)), streams, rotation=25, ha="right")
    panel.set_yticks(range(len(streams)), streams)
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0)


def _svg(figure: Figure) -> str:
    """The figure as an `<svg>` element that scales with the page."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="[A-Za-z][\w.]*_\d+"', "", svg)  # the same names in every plot of the page
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    return svg.strip()
