"""Locust's CSV files to a table and plots; runs nothing."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict

from benchmarks.report import between

FOLDER = Path(__file__).parent
RESULTS, PAGE = FOLDER / "results", FOLDER / "README.md"
MARKERS = ("<!-- load tests: begin -->", "<!-- load tests: end -->")
SCHEDULED = "SCHEDULED"
SENT = {"http": "POST", "grpc": "GRPC"}
"""The type of Locust's own rows, by transport."""
PERCENTILES = ("50%", "95%", "99%")


class Outcome(TypedDict):
    """One scenario's run over one transport."""

    scenario: str
    transport: str
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


class Rows(NamedTuple):
    """A scenario's rows of `…_stats.csv`."""

    scheduled: dict[str, str]
    sent: dict[str, str]


def read_rows(path: Path, scenario: str, transport: str) -> Rows:
    """What Locust counted. ValueError where a row is missing."""
    with path.open(newline="") as file:
        rows = {row["Type"]: row for row in csv.DictReader(file) if row["Name"] == scenario}
    sent = SENT[transport]
    if lacking := {SCHEDULED, sent} - rows.keys():
        names = ", ".join(sorted(lacking))
        raise ValueError(f"{path} has no row {names} of `{scenario}`: did it run?")
    return Rows(rows[SCHEDULED], rows[sent])


def percentiles(row: dict[str, str]) -> dict[str, float]:
    """Milliseconds."""
    return {name: float(row[name]) for name in PERCENTILES}


def plot_name(scenario: str, transport: str) -> str:
    """The file of a run's plot."""
    return f"{scenario}-{transport}.png"


def table(outcomes: Sequence[Outcome]) -> str:
    """Markdown; latencies from when requests were due, and p99 from when they were sent."""
    lines = [
        "| scenario | transport | offered /s | answered /s | failed | p50 ms | p95 ms | p99 ms"
        " | p99 sent ms | measured |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in outcomes:
        due = " | ".join(f"{one['scheduled_ms'][name]:g}" for name in PERCENTILES)
        lines.append(
            f"| [{one['scenario']}](results/{plot_name(one['scenario'], one['transport'])})"
            f" | {one['transport']} | {one['offered']:g} | {one['answered']:.4g}"
            f" | {one['failed']} of {one['requests']} | {due}"
            f" | {one['sent_ms']['99%']:g} | {one['date']}, {one['commit']}, {one['hardware']} |"
        )
    return "\n".join(lines)


def keep(new: Sequence[Outcome], results: Path = RESULTS, page: Path = PAGE) -> None:
    """Writes results.json, old ones of other scenarios and transports kept, and the table anew."""
    file = results / "results.json"
    old: list[Outcome] = json.loads(file.read_text()) if file.is_file() else []
    by_run = {(one["scenario"], one["transport"]): one for one in (*old, *new)}
    kept = [by_run[key] for key in sorted(by_run)]
    results.mkdir(exist_ok=True)
    file.write_text(json.dumps(kept, indent=2) + "\n")
    page.write_text(between(page.read_text(), MARKERS, table(kept)))


def plot(history: Path, scenario: str, transport: str, folder: Path) -> None:
    """Rates and latencies over time, from `…_stats_history.csv`, as a file in `folder`."""
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
    rates.set_title(f"{scenario} over {transport}: latency from when requests were due")
    rates.set_ylabel("requests/s")
    latencies.set_ylabel("ms")
    latencies.set_xlabel("s")
    for axes in (rates, latencies):
        axes.legend(loc="upper right")
    figure.tight_layout()
    folder.mkdir(exist_ok=True)
    figure.savefig(folder / plot_name(scenario, transport), dpi=100)
    plt.close(figure)


def _number(text: str) -> float:
    return float("nan") if text in ("", "N/A") else float(text)
