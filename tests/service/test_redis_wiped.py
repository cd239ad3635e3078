"""Redis loses everything under a running service: counts and checkpoints come back, the log is
unharmed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from koine.__main__ import main
from koine.artifact import Artifact
from koine.audit.events import content_digest
from koine.audit.sinks import REDIS_KEY
from tests.service.cache.server import RedisServer
from tests.service.process import Server, bentoml_serve
from tests.service.test_audit import Log

WORKERS = 2
WAIT_S = 60.0


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class Sender:
    """Sends texts that occur once, each over a connection of its own, so to any worker."""

    def __init__(self, server: Server) -> None:
        self._server, self.texts = server, list[str]()

    def send(self, count: int) -> None:
        texts = [f"text {len(self.texts) + n}" for n in range(count)]
        answer = httpx.post(
            f"{self._server.client.base_url}/v1/encode",
            json={"inputs": [{"text": text} for text in texts]},
        )
        assert answer.status_code == 200, answer.text
        self.texts += texts

    def counted(self) -> int:
        """Items in the window, which reaches over all buckets of the test."""
        found: Any = self._server.client.get("/v1/drift", params={"window_s": 7200}).json()
        return found["streams"].get("tiny_text", {"items": 0})["items"]

    def until_all_are_counted(self) -> None:
        """Sends on until every item that was ever sent is counted.

        A worker puts its counts anew when it counts again.
        """
        deadline = time.monotonic() + WAIT_S
        while self.counted() != len(self.texts):
            assert time.monotonic() < deadline, (self.counted(), len(self.texts))
            self.send(4)
            time.sleep(1)


@pytest.mark.slow
def test_a_wiped_redis_recovers_and_the_log_is_unharmed(
    tiny_artifact: Artifact, log: Log, redis: RedisServer, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    settings = {
        "KOINE_ARTIFACT": str(tiny_artifact.path),
        "KOINE_PROVIDER": "cpu",
        "KOINE_WORKERS": str(WORKERS),
        "KOINE_REDIS_URL": redis.url,
        "KOINE_DRIFT_BUCKET_S": "3600",
        "KOINE_AUDIT": str(log.root),
        "KOINE_AUDIT_KEY": str(log.key),
        "KOINE_AUDIT_PUBLISH": "redis",
    }
    with bentoml_serve(tmp_path, settings=settings) as server, redis.client() as client:
        sender = Sender(server)
        deadline = time.monotonic() + WAIT_S
        while f"koine_ready {WORKERS}.0" not in server.client.get("/metrics").text:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        for _ in range(10):
            sender.send(4)
        sender.until_all_are_counted()
        client.flushall()
        assert sender.counted() < len(sender.texts)
        sender.until_all_are_counted()
    with redis.client() as client:
        assert client.xlen(REDIS_KEY) >= WORKERS  # the last checkpoint of each, over all entries
    kept = {event.content["text"] for event in log.events("encode")}
    assert kept == {content_digest(text.encode()) for text in sender.texts}
    told = ["--key", f"{log.key}.pub", "--checkpoints", redis.url]
    assert main(["audit", "verify", str(log.root), *told]) == 0
    out = capsys.readouterr().out
    assert "not" not in out
    assert ", 0 published ones" not in out


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)
