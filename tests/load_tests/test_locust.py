"""A short distributed run of Locust, which patches sockets and so runs in processes of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.serving.server import serving
from koine.artifact import Artifact
from load_tests import run as runner


def test_a_master_and_two_workers_send_what_is_due(tiny_artifact: Artifact, tmp_path: Path) -> None:
    plan = runner.parsed(["--rate", "10", "--seconds", "4", "--workers", "2"])
    with serving(tiny_artifact.path, core=None) as server:
        found = runner.run("poison", server.url, plan, tmp_path)
        counted = server.metrics()['koine_requests_total{outcome="ok",route="/v1/encode"}']
    assert found["failed"] == 0
    # 40 expected, standard deviation 6; a busy machine sends some of them late, but sends them
    assert 15 < found["requests"] < 80
    assert counted >= found["requests"]
    assert found["scheduled_ms"]["99%"] >= found["sent_ms"]["50%"] > 0
    assert (tmp_path / "poison.png").is_file()
    assert "locust" not in sys.modules


def test_a_server_that_is_not_there_fails_the_run(tmp_path: Path) -> None:
    plan = runner.parsed(["--rate", "5", "--seconds", "1", "--workers", "1"])
    with pytest.raises((RuntimeError, ValueError), match="locust ended|did it run"):
        runner.run("poison", "http://127.0.0.1:9", plan, tmp_path)
