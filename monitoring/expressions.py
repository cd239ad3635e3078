"""Every PromQL expression of the rules and of the dashboards; runs none of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

HERE = Path(__file__).parent
RULES = (HERE / "rules" / "recording.yml", HERE / "rules" / "alerts.yml")
DASHBOARDS = HERE / "dashboards" / "json"
_METRIC = re.compile(r"\bkoine[_:][a-z0-9_:]+")
_LABELS = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)")


class Rule(NamedTuple):
    """A recording rule or an alert."""

    name: str
    expr: str
    alert: bool
    texts: tuple[str, ...]
    """Annotations, whose templates may ask queries of their own."""


class PanelQuery(NamedTuple):
    """One query of one panel."""

    dashboard: str
    panel: str
    expr: str
    instant: bool


def rules(files: Iterable[Path] = RULES) -> list[Rule]:
    """In the order of the files."""
    found: list[Rule] = []
    for path in files:
        for group in yaml.safe_load(path.read_text())["groups"]:
            found += [_rule(one) for one in group["rules"]]
    return found


def dashboards() -> list[dict[str, Any]]:
    """Every dashboard that was written, as Grafana reads it."""
    return [json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))]


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Its panels without the rows that part them."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", ())
        else:
            yield panel


def queries(dashboard: dict[str, Any]) -> Iterator[PanelQuery]:
    """All of a dashboard, its variables filled in."""
    for panel in panels(dashboard):
        for target in panel.get("targets", ()):
            expr, instant = filled(target["expr"]), bool(target.get("instant"))
            yield PanelQuery(dashboard["title"], panel["title"], expr, instant)


def filled(expr: str, window: str = "1m", span: str = "1h", interval: str = "5s") -> str:
    """An expression as Grafana sends it where every variable says `All`."""
    asked = {"__rate_interval": window, "__range": span, "__interval": interval}
    for name, value in asked.items():
        expr = expr.replace(f"${name}", value)
    return re.sub(r"\$[a-z_]+", ".*", expr)


def metric_names(expr: str) -> set[str]:
    """The names of series in it, of histograms those with `_bucket`, `_sum` and `_count`."""
    return set(_METRIC.findall(_LABELS.sub("", expr)))


def _rule(written: dict[str, Any]) -> Rule:
    name = written.get("alert") or written["record"]
    texts = tuple(written.get("annotations", {}).values())
    return Rule(name, written["expr"], "alert" in written, texts)
