"""The drift worker as a process beside a real service and a real Redis."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from koine.artifact import Artifact
from koine.audit.signing import write_new_key
from koine.audit.verify import verify_log
from service.drift.figures import MOST_CONCEPTS
from service.drift.records import record_bytes, record_digest
from service.schemas import DriftResponse
from tests.service.cache.server import RedisServer
from tests.service.conftest import serving
from tests.service.process import ROOT, environment, free_port

NUMBERS = itertools.count()
"""No two texts are equal: those would count once."""
WINDOWS = {"drift_bucket_s": 1, "drift_window_s": 6, "drift_grace_s": 6}


class Worker:
    """A drift worker, its metrics and its log."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process, self.url, self._log = process, f"http://127.0.0.1:{port}", log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=10)

    def metrics(self) -> dict[str, float]:
        lines = [x for x in self.get("/metrics").text.splitlines() if not x.startswith("#")]
        return {name: float(value) for name, value in (x.rsplit(" ", 1) for x in lines)}


@contextmanager
def worker(home: Path, artifact: Artifact, redis: str, **settings: Any) -> Iterator[Worker]:
    port = free_port()
    home.mkdir()
    given = {"artifact": str(artifact.path), "redis_url": redis, "drift_port": port, **settings}
    env = environment(home, **{f"KOINE_{name.upper()}": str(v) for name, v in given.items()})
    with (home / "log").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "service.drift"], cwd=ROOT, env=env, stdout=out, stderr=out
        )
    found = Worker(process, port, home / "log")
    try:
        until(lambda: process.poll() is None and found.get("/readyz").status_code == 200, 60)
        yield found
    finally:
        process.terminate()
        process.wait(20)


def until(true: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if true():
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def send(client: TestClient, seconds: float) -> None:
    """Traffic unlike the reference, a few hundred texts a second."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        texts = [f"{next(NUMBERS)} " + "zq " * (n % 60) for n in range(60)]
        answer = client.post(
            "/v1/encode",
            json={"inputs": [{"text": text} for text in texts]},
            headers={"Koine-Segment": "shop"},
        )
        assert answer.status_code == 200, answer.text
        time.sleep(0.2)


def test_it_judges_tells_and_hands_over(
    tiny_artifact: Artifact, redis: RedisServer, tmp_path: Path
) -> None:
    key = write_new_key(tmp_path / "key")
    (tmp_path / "log").mkdir()
    audited = {"audit": tmp_path / "log", "audit_key": tmp_path / "key"}
    with (
        serving(tiny_artifact, redis_url=redis.url, **WINDOWS) as client,
        worker(tmp_path / "1", tiny_artifact, redis.url, **WINDOWS, **audited) as first,
        worker(tmp_path / "2", tiny_artifact, redis.url, **WINDOWS, **audited) as second,
    ):
        assert first.metrics()["koine_drift_leader"] == 1
        assert {name for name in second.metrics() if "_created" not in name} == {
            "koine_drift_leader",
            'koine_drift_runs_total{result="ok"}',
            'koine_drift_runs_total{result="error"}',
            "koine_drift_last_run_timestamp_seconds",
            "koine_drift_window_seconds",
        }
        where = f'dictionary="{tiny_artifact.manifest.title}"'
        drifted = f'koine_drift_state{{{where},state="drift",stream="tiny_text"}}'

        def seen_after_more_traffic() -> bool:
            send(client, 2)
            return first.metrics().get(drifted) == 1

        until(seen_after_more_traffic, 90)
        seen = first.metrics()
        concepts = [name for name in seen if name.startswith("koine_drift_concept_log2_ratio")]
        assert 0 < len(concepts) <= MOST_CONCEPTS
        assert 'stream="tiny_text"' in concepts[0]
        assert any('segment="label:shop"' in name for name in seen)
        assert "drift in tiny_text" in first.log

        told = client.get("/v1/drift", params={"history": 5}).json()
        DriftResponse.model_validate(told)
        judged = next(
            one for one in told["history"] if one["streams"]["tiny_text"]["state"] == "drift"
        )
        assert judged["to"] - judged["from"] == 6
        report = judged.pop("report")
        assert record_digest(record_bytes(judged)) == report
        shop = client.get("/v1/drift", params={"segment": "label:shop", "history": 1}).json()
        assert shop["reference"]["source"] == "learning"

        os.kill(first.process.pid, signal.SIGKILL)
        until(lambda: second.metrics()["koine_drift_leader"] == 1, 40)
        until(lambda: "koine_drift_window_end_timestamp_seconds" in str(second.metrics()), 20)
        before = {one["from"] for one in told["history"]}
        after = client.get("/v1/drift", params={"history": 50}).json()["history"]
        assert before <= {one["from"] for one in after}
        assert len({one["from"] for one in after}) == len(after)

    checked = verify_log(tmp_path / "log", key.public)
    assert [fault for one in checked for fault in one.faults] == []
    entries = "".join(path.read_text() for path in (tmp_path / "log").glob("*/*.jsonl"))
    assert report in entries


def test_it_waits_for_a_redis_that_is_away_and_says_so(
    tiny_artifact: Artifact, redis: RedisServer, tmp_path: Path
) -> None:
    with worker(tmp_path / "1", tiny_artifact, redis.url, **WINDOWS) as one:
        until(lambda: "koine_drift_state{" in str(one.metrics()), 20)
        redis.stop()
        until(lambda: one.get("/readyz").status_code == 503, 20)
        assert "koine_drift_state{" in str(one.metrics())  # what was judged last stands
        assert one.metrics()["koine_drift_leader"] == 0
        assert one.get("/livez").status_code == 200
        redis.start()
        until(lambda: one.get("/readyz").status_code == 200, 20)
    assert one.process.returncode == -signal.SIGTERM  # raised again once all is put away
    with redis.client() as client:
        assert not client.keys("koine:drift:leader:*")
    assert "who leads cannot be known" in one.log


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "set KOINE_REDIS_URL"),
        ({"KOINE_REDIS_URL": "redis://127.0.0.1:1", "KOINE_ARTIFACT": "/nowhere"}, "not exist"),
        ({"KOINE_DRIFT_WINDOW_S": "100"}, "is no multiple of"),
    ],
)
def test_it_says_what_it_needs(settings: dict[str, str], says: str, tmp_path: Path) -> None:
    env = environment(tmp_path, **{"KOINE_ARTIFACT": "/nowhere", **settings})
    ended = subprocess.run(
        [sys.executable, "-m", "service.drift"],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode != 0
    assert says in ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr


def test_a_reference_is_learnt_anew_on_demand(
    tiny_artifact: Artifact, redis: RedisServer, tmp_path: Path
) -> None:
    def relearn(segment: str) -> subprocess.CompletedProcess[str]:
        env = environment(
            tmp_path, KOINE_ARTIFACT=str(tiny_artifact.path), KOINE_REDIS_URL=redis.url
        )
        return subprocess.run(
            [sys.executable, "-m", "service.drift", "relearn", segment],
            cwd=ROOT, env=env, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    name = f"koine:drift:{tiny_artifact.digest}:reference:label:shop"
    with redis.client() as client:
        client.hset(name, mapping={"profile": b"", "through": 5, "whole": 1})
        assert relearn("label:shop").returncode == 0
        assert not client.exists(name)
    refused = relearn("all")
    assert refused.returncode != 0
    assert re.search("KOINE_DRIFT_REFERENCE=\\s*live", refused.stderr)
