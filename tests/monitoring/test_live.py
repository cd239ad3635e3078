"""Every query of every panel and rule, asked of a real Prometheus that scrapes real processes."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator

import pytest

from koine.artifact import Artifact
from monitoring.expressions import HERE, PanelQuery, Rule, dashboards, metric_names, queries, rules
from monitoring.prometheus_api import Prometheus, Series
from monitoring.tour.processes import Processes, port
from monitoring.tour.stack import Stack, Windows
from tests.monitoring.corpora import write_corpus
from tests.monitoring.programs import needs
from tests.service.labelled import labelled

QUERIES = [query for dashboard in dashboards() for query in queries(dashboard)]
RULES = rules()
WINDOWS = Windows(bucket_s=1, window_s=10, grace_s=6, learn_items=200)
WITHIN_S = 180.0
"""On a busy machine; an idle one takes half a minute."""
MOST_SERIES = {"koine": 1200, "koine-drift": 200}
"""Of one scrape; most of the service's are buckets and outcomes of its routes, zeros too."""

SELECTOR = re.compile(r"koine[_:][\w:]+\{[^}]*\}")


@pytest.fixture(scope="module")
def live(tiny_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that sees traffic far from the artifact's reference, and judged windows."""
    needs("redis-server", "prometheus")
    folder = tmp_path_factory.mktemp("live")
    artifact = labelled(tiny_artifact, folder / "artifact")
    corpus = write_corpus(folder / "corpus")
    stack = Stack(
        artifact=artifact.path,
        folder=folder / "stack",
        windows=WINDOWS,
        service_port=port(),
        drift_port=port(),
        prometheus_port=port(),
    )
    with Processes(folder / "stack") as processes:
        stack.start(processes)
        # as long as tests ask: windows without traffic have nothing to show
        command = [sys.executable, "-m", "monitoring.replay", stack.service, "--rate", "60"]
        command += ["--corpus", str(corpus), "--seconds", "3600"]
        command += ["--segment", "door", "--segment", "yard"]
        processes.start("replay", command, {}, lambda: True)
        with Prometheus(stack.prometheus) as prometheus:
            assert _found(prometheus, "koine:drift_concept:ratio", WITHIN_S), prometheus.names()
            yield prometheus


def _found(prometheus: Prometheus, expr: str, within_s: float = 20) -> list[Series]:
    """What is there now, or soon: a scrape may be late."""
    deadline = time.monotonic() + within_s
    while not (found := prometheus.now(expr)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return found


def _data(prometheus: Prometheus, query: PanelQuery) -> list[Series]:
    if query.instant:
        return _found(prometheus, query.expr)
    now = time.time()
    return prometheus.over(query.expr, now - 60, now, 5)


def test_both_processes_are_scraped_and_every_rule_is_healthy(live: Prometheus) -> None:
    assert {one["labels"]["job"] for one in live.targets()} == {"koine", "koine-drift"}
    assert _found(live, "count(up == 1) == 2"), live.targets()
    assert [one["lastError"] for one in live.rules() if one["health"] != "ok"] == []


@pytest.mark.parametrize("query", QUERIES, ids=lambda q: f"{q.dashboard}-{q.panel}-{q.expr[:24]}")
def test_every_query_of_every_panel_returns_data(live: Prometheus, query: PanelQuery) -> None:
    found = _data(live, query)
    assert found, f"{query.dashboard}, {query.panel}: {query.expr}"
    assert any(value == value for one in found for value in one.values), "nothing but NaN"


@pytest.mark.parametrize("name", [rule.name for rule in RULES if not rule.alert])
def test_every_recording_rule_has_data(live: Prometheus, name: str) -> None:
    assert _found(live, name), name


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.alert], ids=lambda rule: rule.name)
def test_every_vector_of_every_alert_has_data(live: Prometheus, rule: Rule) -> None:
    """An alert's own answer is empty while all is well; each vector in it must not be."""
    for text in (rule.expr, *rule.texts):
        for name in metric_names(text):
            assert _found(live, name), f"{rule.name} asks {name}, which nobody exports"


def test_every_matcher_of_every_alert_and_rule_finds_series(live: Prometheus) -> None:
    """A label or value that does not exist would never ring."""
    found = {match for rule in RULES for match in SELECTOR.findall(rule.expr)}
    assert 'koine:rejected_requests:ratio_rate5m{reason="queue_full"}' in found
    assert [match for match in sorted(found) if not _found(live, match)] == []


def test_no_name_in_a_rule_or_panel_is_absent_from_the_scrapes(live: Prometheus) -> None:
    asked = {name for query in QUERIES for name in metric_names(query.expr)}
    asked |= {
        name for rule in RULES for text in (rule.expr, *rule.texts) for name in metric_names(text)
    }
    assert sorted(asked - live.names()) == []


def test_every_exported_metric_is_on_a_panel_or_in_a_rule(live: Prometheus) -> None:
    asked = {_family(name) for query in QUERIES for name in metric_names(query.expr)}
    asked |= {_family(name) for rule in RULES for name in metric_names(rule.expr)}
    exported = {_family(name) for name in live.names() if name.startswith("koine_")}
    assert sorted(exported - asked) == []


def test_every_exported_metric_is_documented(live: Prometheus) -> None:
    table = (HERE.parent / "docs" / "api.md").read_text()
    documented = {_family(name) for name in re.findall(r"^\| `(koine_\w+)`", table, re.M)}
    exported = {_family(name) for name in live.names() if name.startswith("koine_")}
    assert exported == documented


def _family(name: str) -> str:
    return re.sub(r"_(?:bucket|sum|count|total|created)$", "", name)


def test_series_are_bounded(live: Prometheus) -> None:
    assert 0 < _found(live, "count(koine_drift_concept_log2_ratio)")[0].last <= 20
    for job, most in MOST_SERIES.items():
        count = _found(live, f'count({{job="{job}",__name__=~"koine_.*"}})')[0].last
        assert count <= most, f"{job} exports {count:.0f} series"
