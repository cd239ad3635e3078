"""Draws what the drift benchmarks kept: `python -m benchmarks.monitoring.plot`; measures none."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.entry import Entry
from benchmarks.monitoring.__main__ import REPORT

OUT = Path(__file__).parents[1] / "results" / "drift.png"
KINDS = ("independent", "bursts", "clients")
QUIET = (
    "z-test, BH",
    "KS, p < .05",
    "PSI > .1",
    "PSI > .25",
    "Evidently, 0/1",
    "Evidently, activations",
)
INK, OURS, OTHERS = "#222222", "#0b6e4f", ("#9a9a9a", "#c4783a", "#5873a8")


def main() -> None:
    """Quiet windows that ring on the left, changes that are found on the right."""
    kept: list[Entry] = json.loads(REPORT.results.read_text())
    by_name = {one["name"]: one for one in kept}
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": [1.25, 1]})
    _quiet(left, by_name)
    _power(right, by_name)
    figure.savefig(OUT, dpi=130)


def _quiet(axes: Axes, by_name: dict[str, Entry]) -> None:
    about = "quiet, {}, 2000 items: false concept / {}"
    for at, kind in enumerate(KINDS):
        ours = by_name[about.format(kind, QUIET[0])]["ours"]
        shares = [ours, *(by_name[about.format(kind, name)]["baseline"] for name in QUIET)]
        places = [place + 0.27 * (at - 1) for place in range(len(shares))]
        bars = axes.bar(places, shares, 0.25, color=OTHERS[at], label=kind)
        for bar, share in zip(bars, shares, strict=True):
            axes.text(
                bar.get_x() + bar.get_width() / 2, share + 0.01, f"{share:.2f}", ha="center", size=6
            )
    axes.axhline(0.05, color=INK, lw=0.8, ls="--")
    axes.set_xticks(range(len(QUIET) + 1), ["Koine", *QUIET], rotation=25, ha="right", size=8)
    axes.set_title("quiet windows of 2,000 items that name a concept", size=10)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0.52, 1))
    axes.set_ylim(0, 1.1)


def _power(axes: Axes, by_name: dict[str, Entry]) -> None:
    names = ("z-test, BH", "KS, p < .05", "PSI > .1", "Evidently, 0/1", "Evidently, activations")
    tasks = {"×3 in 2,000": "×3 in 2000 items", "×2 in 5,000": "×2 in 5000 items"}
    for at, (label, task) in enumerate(tasks.items()):
        about = f"power, independent, 1 % concept {task}: koine / "
        ours = by_name[about + names[0]]["ours"]
        shares = [ours, *(by_name[about + name]["baseline"] for name in names)]
        places = [place + 0.36 * (at - 0.5) for place in range(len(shares))]
        bars = axes.bar(places, shares, 0.34, color=(OURS, "#7db9a3")[at], label=label)
        for bar, share in zip(bars, shares, strict=True):
            axes.text(
                bar.get_x() + bar.get_width() / 2, share + 0.01, f"{share:.3g}", ha="center", size=7
            )
    axes.axhline(0.9, color=INK, lw=0.8, ls="--")
    axes.set_xticks(range(len(names) + 1), ["Koine", *names], rotation=25, ha="right", size=8)
    axes.set_title("windows in which a 1 % concept of 8,192 is found", size=10)
    axes.legend(frameon=False, fontsize=8)
    axes.set_ylim(0, 1.1)


if __name__ == "__main__":
    main()
