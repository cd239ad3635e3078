"""The dashboards that are committed: in step with the code, complete, and importable anywhere."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
import yaml

from monitoring.dashboards.__main__ import written
from monitoring.expressions import DASHBOARDS, HERE, dashboards, panels, queries, rules

BOARDS = dashboards()
PANELS = [(board, panel) for board in BOARDS for panel in panels(board)]
EVERY_PANEL = pytest.mark.parametrize(
    ("board", "panel"), PANELS, ids=[f"{b['uid']}-{p['title']}" for b, p in PANELS]
)


def test_files_are_what_the_code_writes() -> None:
    committed = {path.name: path.read_text() for path in DASHBOARDS.glob("*.json")}
    assert committed == written(), "run `python -m monitoring.dashboards`"


def test_uids_and_titles_are_unique() -> None:
    assert len({board["uid"] for board in BOARDS}) == len(BOARDS) >= 4
    assert len({board["title"] for board in BOARDS}) == len(BOARDS)


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board["uid"])
def test_a_dashboard_belongs_to_no_installation(board: dict[str, Any]) -> None:
    assert board.get("id") is None
    variables = {one["name"]: one for one in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    asked = {name for query in board["panels"] for name in re.findall(r"\$([a-z]+)\b", str(query))}
    assert asked <= variables.keys() | {"datasource"}
    for query in queries(board):
        assert not re.search(r"\b(?:instance|pod|pid|http)\b", query.expr)


@EVERY_PANEL
def test_a_panel_says_what_it_shows(board: dict[str, Any], panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["type"] == "table" or panel["type"] == "stat" or target["legendFormat"]


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board["uid"])
def test_panels_do_not_overlap_and_fill_their_rows(board: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        rows, columns = range(at["y"], at["y"] + at["h"]), range(at["x"], at["x"] + at["w"])
        cells = set(itertools.product(rows, columns))
        assert not cells & taken, panel["title"]
        taken |= cells
    height = 1 + max(row for row, _ in taken)
    assert len(taken) == height * 24, "a hole in the grid"


def test_ids_are_unique_in_a_dashboard() -> None:
    for board in BOARDS:
        ids = [panel["id"] for panel in board["panels"]]
        assert len(set(ids)) == len(ids)


def test_recording_rules_that_panels_ask_exist() -> None:
    recorded = {rule.name for rule in rules()}
    asked = {
        name
        for board in BOARDS
        for query in queries(board)
        for name in re.findall(r"koine:[a-z0-9_:]+", query.expr)
    }
    assert sorted(asked - recorded) == []


def test_grafana_is_told_where_they_are() -> None:
    folder = HERE / "grafana" / "provisioning"
    [provider] = yaml.safe_load((folder / "dashboards" / "koine.yml").read_text())["providers"]
    assert provider["type"] == "file"
    [source] = yaml.safe_load((folder / "datasources" / "koine.yml").read_text())["datasources"]
    assert source["type"] == "prometheus"
