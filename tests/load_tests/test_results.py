"""Locust's CSV files become a table and plots."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from load_tests.results import MARKERS, PAGE, Outcome, keep, plot, read_rows, table

STATS = """Type,Name,Request Count,Failure Count,50%,95%,99%
POST,photos,90,2,10,20,30
SCHEDULED,photos,90,2,11,40,130
SCHEDULED,texts,1,0,1,1,1
,Aggregated,181,4,10,20,30
"""
HISTORY = """Timestamp,Type,Name,Requests/s,Failures/s,50%,95%,99%
100,SCHEDULED,photos,0.0,0.0,N/A,N/A,N/A
101,SCHEDULED,photos,5.0,0.0,10,20,30
102,POST,photos,5.0,0.0,10,20,30
102,SCHEDULED,photos,6.0,1.0,12,22,35
"""


def outcome(scenario: str, answered: float) -> Outcome:
    return Outcome(
        scenario=scenario, offered=5.0, answered=answered, requests=90, failed=2,
        scheduled_ms={"50%": 11.0, "95%": 40.0, "99%": 130.0},
        sent_ms={"50%": 10.0, "95%": 20.0, "99%": 30.0},
        date="2026-01-01", commit="abc", hardware="two cores",
    )  # fmt: skip


def test_rows_are_those_of_the_scenario(tmp_path: Path) -> None:
    path = tmp_path / "x_stats.csv"
    path.write_text(STATS)
    rows = read_rows(path, "photos")
    assert (rows["POST"]["99%"], rows["SCHEDULED"]["99%"]) == ("30", "130")
    with pytest.raises(ValueError, match="no row POST of `texts`"):
        read_rows(path, "texts")


def test_results_of_other_scenarios_are_kept(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("head\n" + "\n".join(MARKERS) + "\ntail\n")
    keep([outcome("photos", 4.0), outcome("texts", 5.0)], tmp_path, page)
    keep([outcome("photos", 4.5)], tmp_path, page)
    kept = json.loads((tmp_path / "results.json").read_text())
    assert [(one["scenario"], one["answered"]) for one in kept] == [("photos", 4.5), ("texts", 5)]
    text = page.read_text()
    assert text.startswith("head\n")
    assert text.endswith("tail\n")
    assert text.count("| 2 of 90 |") == 2
    assert "| 5 | 4.5 | 2 of 90 | 11 | 40 | 130 | 30 |" in text


def test_the_page_has_the_markers_and_lists_the_scenarios() -> None:
    page = PAGE.read_text()
    assert all(page.count(marker) == 1 for marker in MARKERS)
    lines = table([outcome("photos", 1.0)]).splitlines()
    assert len({line.count("|") for line in lines}) == 1


def test_plots_are_drawn(tmp_path: Path) -> None:
    history = tmp_path / "x_stats_history.csv"
    history.write_text(HISTORY)
    plot(history, "photos", tmp_path / "plots" / "photos.png")
    assert (tmp_path / "plots" / "photos.png").read_bytes().startswith(b"\x89PNG")
