"""Checkpoints reach a file, standard output and a real Redis, which may fail without harm."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from koine.audit.checkpoints import read_checkpoints
from koine.audit.config import AuditConfig
from koine.audit.log import AuditLog
from koine.audit.sinks import REDIS_KEY, FileSink, RedisSink, StdoutSink
from tests.koine.audit.logs import encoded, faults, signing_key
from tests.service.cache.server import RedisServer

EACH = AuditConfig(checkpoint_events=1)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """Not started yet."""
    server = RedisServer(tmp_path)
    try:
        yield server
    finally:
        server.stop()


def own(folder: Path) -> list[str]:
    """The log's own checkpoints, as notes."""
    return [c.note for c in read_checkpoints(folder / "log" / "w0" / "checkpoints.jsonl")]


def test_standard_output_and_a_file_get_the_same_lines(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    kept = tmp_path / "published.jsonl"
    sinks = [StdoutSink(), FileSink(kept)]
    with AuditLog(tmp_path / "log", "w0", EACH, signer=signing_key(tmp_path), sinks=sinks) as log:
        log.record(encoded(1))
    out = capfdbinary.readouterr().out
    assert out == kept.read_bytes()
    assert [json.loads(line) for line in out.splitlines()] == own(tmp_path)


def test_a_redis_that_is_wiped_and_gone_harms_no_log(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    redis_server.start()
    sinks = [RedisSink(redis_server.url)]
    with AuditLog(tmp_path / "log", "w0", EACH, signer=signing_key(tmp_path), sinks=sinks) as log:
        log.record(encoded(1))
        with redis_server.client() as client:
            while not client.xlen(REDIS_KEY):
                time.sleep(0.01)
            client.flushall()
        redis_server.stop()
        log.record(encoded(2))
        while not log.stats().unpublished:
            time.sleep(0.01)
        redis_server.start()
        log.record(encoded(3))
    with redis_server.client() as client:
        found: Any = client.xrange(REDIS_KEY)
        sent = [fields[b"note"].decode() for _, fields in found]
    # what was published while it was gone came afterwards; what was wiped is gone from it alone
    assert sent == own(tmp_path)[-len(sent) :]
    assert len(sent) >= 2
    assert faults(tmp_path) == []
