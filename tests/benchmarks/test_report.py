"""Entries are kept by name and shown in the page of their group."""

from __future__ import annotations

import pytest

from benchmarks.entry import Entry, entry
from benchmarks.report import Report, merged
from benchmarks.serving.__main__ import REPORT as SERVING
from benchmarks.training.__main__ import REPORT as TRAINING

REPORT = Report("training", ())
BEGIN, END = REPORT.markers


def made(name: str, ratio: float, target: float | None = 1.0) -> Entry:
    return entry(name, 2.0, 1.0, ratio=ratio, target=target, unit="s")


def test_new_entries_replace_old_ones_of_their_name() -> None:
    kept = merged([made("b", 1.0), made("a", 1.0)], [made("b", 3.0)])
    assert [(one["name"], one["ratio"]) for one in kept] == [("a", 1.0), ("b", 3.0)]


def test_the_table_stands_between_the_markers_and_says_what_is_missed() -> None:
    page = f"head\n{BEGIN}\nold\n{END}\ntail\n"
    new = REPORT.written(page, [made("good", 1.0), made("bad", 0.9), made("free", 0.1, None)])
    assert new.startswith("head\n")
    assert new.endswith("tail\n")
    assert "old" not in new
    lines = {line.split(" | ")[0]: line for line in new.splitlines()}
    assert "1 met" in lines["| good"]
    assert "1 **missed**" in lines["| bad"]
    assert "met" not in lines["| free"]
    assert REPORT.written(new, []) != new
    with pytest.raises(ValueError, match="lacks the markers"):
        REPORT.written("head", [])


@pytest.mark.parametrize("report", [TRAINING, SERVING], ids=lambda report: report.group)
def test_the_page_has_the_markers_and_every_module_exists(report: Report) -> None:
    report.written(report.page.read_text(), [])
    folder = report.folder / report.group
    assert [name for name in report.modules if not (folder / f"{name}.py").is_file()] == []
