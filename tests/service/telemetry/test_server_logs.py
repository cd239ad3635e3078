"""What a real server prints, all of it; and that it serves where it cannot print."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from koine.artifact import Artifact
from tests.service.inputs import image_item
from tests.service.process import BENTOML, ROOT, Server, bentoml_serve, environment
from tests.service.test_server import wait_for_metric

TEXT = {"inputs": [{"text": "a secret word"}]}
SERVE = [str(BENTOML), "serve", "service.app:ConceptService", "--host", "127.0.0.1", "--port"]


def settings_of(artifact: Artifact, **settings: str) -> dict[str, str]:
    """With JSON lines for every request."""
    return {
        "KOINE_ARTIFACT": str(artifact.path),
        "KOINE_PROVIDER": "cpu",
        "KOINE_LOG_FORMAT": "json",
        "KOINE_ACCESS_LOG": "all",
        **settings,
    }


@pytest.fixture(scope="module")
def printed(
    tiny_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """Every line, from the start to after the end, of two workers that were sent good and bad."""
    settings = settings_of(tiny_artifact, KOINE_WORKERS="2", KOINE_UNKNOWN="1")
    with bentoml_serve(tmp_path_factory.mktemp("bentoml"), settings=settings) as server:
        wait_for_metric(server, "koine_ready", 2)
        send_good_and_bad(server)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
    lines = server.log.splitlines()
    assert all(line.isascii() for line in lines)
    return [json.loads(line) for line in lines]


def send_good_and_bad(server: Server) -> None:
    """Requests of every outcome, several of them hostile."""
    client = server.client
    with ThreadPoolExecutor(8) as pool:
        for answer in pool.map(lambda _: client.post("/v1/encode", json=TEXT), range(40)):
            assert answer.status_code == 200
    headers = {"x-request-id": "mine", "authorization": "Bearer secret"}
    answer = client.post("/v1/encode?q=secret", json=TEXT, headers=headers)
    assert answer.headers["x-request-id"] == "mine"
    assert client.post("/v1/encode", content=b'{"secret').status_code == 400
    forged = "%0a%7b%22level%22%3a%22forged%22%7d%0d%e2%80%a8"
    answer = client.get(f"/v1/{forged}", headers={"x-request-id": 'x"}{"level":"forged"}'})
    assert answer.status_code == 404
    assert answer.headers["x-request-id"].isalnum()
    with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as raw:
        raw.sendall(b"NO HTTP AT ALL\x00\n\r\n\r\n")
        raw.recv(4096)


def test_every_line_is_one_json_object(printed: list[dict[str, Any]]) -> None:
    assert len(printed) > 40
    for entry in printed:
        assert {"time", "level", "logger", "message", "pid"} <= entry.keys()
    assert "forged" not in {entry["level"] for entry in printed}


def test_start_and_end_are_among_them(printed: list[dict[str, Any]]) -> None:
    told = " ".join(entry["message"] for entry in printed)
    assert "Starting production HTTP BentoServer" in told
    assert told.count("serving tiny@0.1") == 2
    assert told.count("Service instance cleanup finalized") == 2
    assert told.count("KOINE_UNKNOWN is no setting") == 3  # the parent and two workers
    assert len({entry["pid"] for entry in printed}) == 3


def test_each_request_has_one_access_line(printed: list[dict[str, Any]]) -> None:
    access = [entry for entry in printed if entry["logger"] == "koine.access"]
    good = [entry for entry in access if entry["outcome"] == "ok"]
    assert len(good) == 41
    assert len({entry["request_id"] for entry in good}) == 41
    (mine,) = [entry for entry in good if entry["request_id"] == "mine"]
    assert mine["route"] == "/v1/encode"
    assert mine["method"] == "POST"
    assert mine["status"] == "200"
    assert mine["items"] == 1
    assert mine["dictionary"] == "tiny@0.1"
    assert mine["timings"].keys() >= {"read", "decode", "queue", "forward"}
    assert 0 < mine["seconds"] < 60
    bad = [entry for entry in access if entry["outcome"] == "client_error"]
    assert sorted(entry["status"] for entry in bad) == ["400", "404"]


def test_no_line_holds_what_was_sent(printed: list[dict[str, Any]]) -> None:
    assert "secret" not in json.dumps(printed)


def test_a_refusal_to_start_is_a_json_line_too(tmp_path: Path) -> None:
    for settings, words in (
        ({}, "KOINE_ARTIFACT is not set"),
        ({"KOINE_MAX_BATCH": "many"}, "KOINE_MAX_BATCH='many'"),
    ):
        given = environment(tmp_path, KOINE_LOG_FORMAT="json", **settings)
        run = subprocess.run(
            [*SERVE, "0"], cwd=ROOT, env=given, capture_output=True, text=True, check=False
        )
        assert run.returncode == 1
        (entry,) = map(json.loads, (run.stdout + run.stderr).splitlines())
        assert entry["level"] == "CRITICAL"
        assert words in entry["message"]


def test_a_worker_that_cannot_start_says_so_in_json(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    """The port is taken: BentoML's own error goes through the hook for uncaught ones."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        run = subprocess.run(
            [*SERVE, str(taken.getsockname()[1])], cwd=ROOT,
            env=environment(tmp_path, **settings_of(tiny_artifact)),
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
    assert run.returncode != 0
    entries = [json.loads(line) for line in (run.stdout + run.stderr).splitlines()]
    assert any("ddress already in use" in json.dumps(entry) for entry in entries)


@contextmanager
def full_disk() -> Iterator[int]:
    """A descriptor that takes nothing."""
    fd = os.open("/dev/full", os.O_WRONLY)
    yield fd
    os.close(fd)


@contextmanager
def closed_pipe() -> Iterator[int]:
    """A pipe whose reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@contextmanager
def sleeping_reader() -> Iterator[int]:
    """A pipe that nobody reads, and which holds a page."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    yield writing
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("output", [full_disk, closed_pipe, sleeping_reader])
def test_a_server_that_cannot_print_serves(
    tiny_artifact: Artifact, tmp_path: Path, output: Any
) -> None:
    settings = settings_of(tiny_artifact)
    with (
        output() as fd,
        bentoml_serve(tmp_path, settings=settings, output=fd) as server,
    ):
        pids = worker_pids(server)
        for n in range(40):  # far more lines than the pipe holds
            answer = server.client.post("/v1/encode", json={"inputs": [image_item(n)]})
            assert answer.status_code == 200
            assert "codes" in answer.json()["results"][0]
        assert server.client.get("/livez").status_code == 200
        assert worker_pids(server) == pids
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0


def worker_pids(server: Server) -> set[int]:
    """Of the running workers."""
    return {child.pid for child in psutil.Process(server.process.pid).children()}
