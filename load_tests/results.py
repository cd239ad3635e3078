"""Locust's CSV files to a table and plots; runs nothing."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from benchmarks.report import between

FOLDER = Path(__file__).parent
RESULTS, PAGE = FOLDER / "results", FOLDER / "README.md"
MARKERS = ("<!-- load tests: begin -->", "<!-- load tests: end -->")
SCHEDULED, SENT = "SCHEDULED", "POST"
PERCENTILES = ("50%", "95%", "99%")


class Outcome(TypedDict):
    """One scenario's run."""

    scenario: str
    offered: float
    """Requests a second that were due."""
    answered: float
    """Good answers a second."""
    requests: int
    failed: int
    scheduled_ms: dict[str, float]
    """Percentiles from when requests were due."""
    sent_ms: dict[str, float]
    """Percentiles from when they were sent."""
    date: str
    commit: str
    hardware: str


def read_rows(path: Path, name: str) -> dict[str, dict[str, str]]:
    """The scenario's rows of `…_stats.csv` by their type. ValueError where one is missing."""
    with path.open(newline="") as file:
        rows = {row["Type"]: row for row in csv.DictReader(file) if row["Name"] == name}
    if lacking := {SCHEDULED, SENT} - rows.keys():
        raise ValueError(f"{path} has no row {', '.join(sorted(lacking))} of `{name}`: did it run?")
    return rows


def percentiles(row: dict[str, str]) -> dict[str, float]:
    """Milliseconds."""
    return {name: float(row[name]) for name in PERCENTILES}


def table(outcomes: Sequence[Outcome]) -> str:
    """Markdown; latencies from when requests were due, and p99 from when they were sent."""
    lines = [
        "| scenario | offered /s | answered /s | failed | p50 ms | p95 ms | p99 ms | p99 sent ms"
        " | measured |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in outcomes:
        due = " | ".join(f"{one['scheduled_ms'][name]:g}" for name in PERCENTILES)
        lines.append(
            f"| [{one['scenario']}](results/{one['scenario']}.png) | {one['offered']:g}"
            f" | {one['answered']:.4g} | {one['failed']} of {one['requests']} | {due}"
            f" | {one['sent_ms']['99%']:g} | {one['date']}, {one['commit']}, {one['hardware']} |"
        )
    return "\n".join(lines)


def keep(new: Sequence[Outcome], results: Path = RESULTS, page: Path = PAGE) -> None:
    """Writes results.json, old ones of other scenarios kept, and the table anew."""
    file = results / "results.json"
    old: list[Outcome] = json.loads(file.read_text()) if file.is_file() else []
    by_name = {one["scenario"]: one for one in (*old, *new)}
    kept = [by_name[name] for name in sorted(by_name)]
    results.mkdir(exist_ok=True)
    file.write_text(json.dumps(kept, indent=2) + "\n")
    page.write_text(between(page.read_text(), MARKERS, table(kept)))


def plot(history: Path, scenario: str, out: Path) -> None:
    """Rates and latencies over time, from `…_stats_history.csv`."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    with history.open(newline="") as file:
        rows = [
            row for row in csv.DictReader(file)
            if row["Name"] == scenario and row["Type"] == SCHEDULED
        ]  # fmt: skip
    figure, (rates, latencies) = plt.subplots(2, 1, sharex=True, figsize=(8, 5))
    start = float(rows[0]["Timestamp"]) if rows else 0.0
    seconds = [float(row["Timestamp"]) - start for row in rows]
    for name in ("Requests/s", "Failures/s"):
        rates.plot(seconds, [float(row[name]) for row in rows], label=name)
    for name in PERCENTILES:
        latencies.plot(seconds, [_number(row[name]) for row in rows], label=name)
    rates.set_title(f"{scenario}: latency from when requests were due")
    rates.set_ylabel("requests/s")
    latencies.set_ylabel("ms")
    latencies.set_xlabel("s")
    for axes in (rates, latencies):
        axes.legend(loc="upper right")
    figure.tight_layout()
    out.parent.mkdir(exist_ok=True)
    figure.savefig(out, dpi=100)
    plt.close(figure)


def _number(text: str) -> float:
    return float("nan") if text in ("", "N/A") else float(text)
