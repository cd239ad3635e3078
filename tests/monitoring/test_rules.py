"""Rules and configurations as Prometheus' and Alertmanager's own tools read them."""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml

from monitoring.expressions import HERE, RULES, Rule, rules
from tests.monitoring.programs import needs

ROOT = HERE.parent
TESTS = sorted((HERE / "rules" / "tests").glob("*.yml"))
ALERTS = [rule for rule in rules() if rule.alert]


def run(*command: object) -> str:
    """What a tool prints; fails with it where the tool does."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_rules_and_configuration_are_read() -> None:
    needs("promtool")
    assert run("promtool", "check", "rules", *RULES).count("SUCCESS") == len(RULES)
    run("promtool", "check", "config", HERE / "prometheus.yml")


def test_alertmanager_reads_its_configuration() -> None:
    needs("amtool")
    run("amtool", "check-config", HERE / "alertmanager.yml")


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_rules_do_what_they_should(path: object) -> None:
    needs("promtool")
    run("promtool", "test", "rules", path)


@pytest.mark.parametrize("severity", ["page", "ticket"])
def test_every_severity_has_a_route(severity: str) -> None:
    needs("amtool")
    config = f"--config.file={HERE / 'alertmanager.yml'}"
    found = run("amtool", "config", "routes", "test", config, f"severity={severity}")
    assert found.strip() == f"{severity}s"


def test_every_alert_is_tested_ringing_and_silent_before_and_after() -> None:
    cases: dict[str, list[tuple[str, bool]]] = {}
    for path in TESTS:
        for test in yaml.safe_load(path.read_text())["tests"]:
            for case in test.get("alert_rule_test", ()):
                said = (case["eval_time"], bool(case.get("exp_alerts")))
                cases.setdefault(case["alertname"], []).append(said)
    assert set(cases) == {alert.name for alert in ALERTS}
    for name, times in cases.items():
        rings = "".join("1" if ringing else "0" for _, ringing in times)
        assert re.search("01+0", rings), f"{name}: {times}"


def test_every_recording_rule_is_tested() -> None:
    tested = "\n".join(path.read_text() for path in TESTS)
    recorded = [rule.name for rule in rules() if not rule.alert]
    assert [name for name in recorded if f"* {name})" not in tested] == []


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_every_alert_says_what_to_do(alert: Rule) -> None:
    [written] = [
        rule
        for group in yaml.safe_load(RULES[1].read_text())["groups"]
        for rule in group["rules"]
        if rule["alert"] == alert.name
    ]
    assert written["labels"]["severity"] in ("page", "ticket")
    assert {"summary", "description", "runbook_url"} == set(written["annotations"])
    page, anchor = written["annotations"]["runbook_url"].split("#")
    sections = re.findall(r"^## (\w+)$(.*?)(?=^## |\Z)", (ROOT / page).read_text(), re.M | re.S)
    by_anchor = {title.lower(): text for title, text in sections}
    assert anchor == written["alert"].lower()
    assert f"**{written['labels']['severity'].title()}.**" in by_anchor[anchor]
