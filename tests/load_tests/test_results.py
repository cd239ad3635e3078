"""Locust's CSV files become a table and plots."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from load_tests.results import MARKERS, PAGE, SENT, Outcome, keep, plot, read_rows, table
from load_tests.wires import WIRES

STATS = """Type,Name,Request Count,Failure Count,50%,95%,99%
POST,photos,90,2,10,20,30
GRPC,mixed,90,2,10,20,31
SCHEDULED,mixed,90,2,11,40,140
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


def outcome(scenario: str, answered: float, transport: str = "http") -> Outcome:
    return Outcome(
        scenario=scenario, transport=transport,
        offered=5.0, answered=answered, requests=90, failed=2,
        scheduled_ms={"50%": 11.0, "95%": 40.0, "99%": 130.0},
        sent_ms={"50%": 10.0, "95%": 20.0, "99%": 30.0},
        date="2026-01-01", commit="abc", hardware="two cores",
    )  # fmt: skip


def test_rows_are_those_of_the_scenario(tmp_path: Path) -> None:
    path = tmp_path / "x_stats.csv"
    path.write_text(STATS)
    for scenario, transport, expected in (
        ("photos", "http", ("130", "30")),
        ("mixed", "grpc", ("140", "31")),
    ):
        rows = read_rows(path, scenario, transport)
        assert (rows.scheduled["99%"], rows.sent["99%"]) == expected
    with pytest.raises(ValueError, match="no row POST of `texts`"):
        read_rows(path, "texts", "http")
    with pytest.raises(ValueError, match="no row GRPC of `photos`"):
        read_rows(path, "photos", "grpc")


def test_every_transport_has_its_type() -> None:
    assert SENT.keys() == WIRES.keys()


def test_results_of_other_scenarios_and_transports_are_kept(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("head\n" + "\n".join(MARKERS) + "\ntail\n")
    keep([outcome("photos", 4.0), outcome("texts", 5.0)], tmp_path, page)
    keep([outcome("photos", 4.2, "grpc")], tmp_path, page)
    keep([outcome("photos", 4.5)], tmp_path, page)
    kept = json.loads((tmp_path / "results.json").read_text())
    assert [(one["scenario"], one["transport"], one["answered"]) for one in kept] == [
        ("photos", "grpc", 4.2),
        ("photos", "http", 4.5),
        ("texts", "http", 5.0),
    ]
    text = page.read_text()
    assert text.startswith("head\n")
    assert text.endswith("tail\n")
    assert text.count("| 2 of 90 |") == 3
    assert "| http | 5 | 4.5 | 2 of 90 | 11 | 40 | 130 | 30 |" in text
    assert "| [photos](results/photos-grpc.png) | grpc | 5 | 4.2 |" in text


def test_the_page_has_the_markers_and_lists_the_scenarios() -> None:
    page = PAGE.read_text()
    assert all(page.count(marker) == 1 for marker in MARKERS)
    lines = table([outcome("photos", 1.0)]).splitlines()
    assert len({line.count("|") for line in lines}) == 1


def test_plots_are_drawn(tmp_path: Path) -> None:
    history = tmp_path / "x_stats_history.csv"
    history.write_text(HISTORY)
    plot(history, "photos", "grpc", tmp_path / "plots")
    assert (tmp_path / "plots" / "photos-grpc.png").read_bytes().startswith(b"\x89PNG")
