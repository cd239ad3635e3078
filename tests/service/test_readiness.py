"""Before the artifact is verified and warm, after loading failed, and when a loop dies."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from koine.artifact import Artifact
from koine.encoder import ConceptEncoder
from service.lame_duck import LAME_DUCK
from service.routes import create_app
from service.settings import Settings
from tests.service.conftest import serving, wait_until_ready
from tests.service.test_unhappy_requests import problem_of


def test_not_ready_until_warm(tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    warm = threading.Event()
    real = ConceptEncoder.warm_up

    def late(encoder: ConceptEncoder) -> None:
        assert warm.wait(20)
        real(encoder)

    monkeypatch.setattr(ConceptEncoder, "warm_up", late)
    app = create_app(Settings(artifact=str(tiny_artifact.path), provider="cpu", threads=1))
    with TestClient(app) as client:
        for path in ("/readyz", "/v1/info"):
            answer = client.get(path)
            assert "warmed up" in problem_of(answer, 503)
            assert answer.headers["retry-after"] == "1"
        problem_of(client.post("/v1/encode", json={"inputs": [{"text": "a"}]}), 503)
        assert client.get("/livez").status_code == 200
        warm.set()
        wait_until_ready(client)
        assert client.post("/v1/encode", json={"inputs": [{"text": "a"}]}).status_code == 200


def test_a_failed_load_stays_the_reason(tmp_path: Path) -> None:
    app = create_app(Settings(artifact=str(tmp_path / "nowhere"), provider="cpu"))
    with TestClient(app) as client:
        deadline = time.monotonic() + 20
        while "warmed up" in (detail := problem_of(client.get("/readyz"), 503)):
            assert time.monotonic() < deadline
        assert "nowhere does not exist" in detail
        assert client.get("/livez").status_code == 200


def test_a_dead_loop_is_not_alive(tiny_artifact: Artifact) -> None:
    with serving(tiny_artifact) as client:
        assert client.get("/livez").json() == {"status": "alive"}
        app: Any = client.app
        batcher = app.state.core.dictionaries.find()._batchers["tiny_a"]
        assert client.portal is not None
        client.portal.call(batcher._loop.cancel)
        time.sleep(0.05)
        assert "loop has stopped" in problem_of(client.get("/livez"), 503)


def test_before_the_end_it_is_alive_and_answers_but_is_not_ready(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = "/v2/models/tiny"
    probes = ("/readyz", "/v2/health/ready", f"{model}/ready", f"{model}/versions/0.1/ready")
    for path in probes:
        answer = client.get(path)
        assert answer.status_code == 200
        assert "connection" not in answer.headers
    monkeypatch.setattr(LAME_DUCK, "begun", True)
    for path in probes:
        answer = client.get(path)
        assert answer.status_code == 503
        assert "the service is stopping" in answer.json()["detail"]
        assert answer.headers["connection"] == "close"
    body = {"inputs": [{"text": "a"}]}
    for answer in (client.get("/livez"), client.get(model), client.post("/v1/encode", json=body)):
        assert answer.status_code == 200
        assert answer.headers["connection"] == "close"


def test_info_tells_streams_and_limits(client: TestClient, tiny_artifact: Artifact) -> None:
    info = client.get("/v1/info").json()
    assert info["dictionary"] == "tiny@0.1"
    assert info["digest"] == tiny_artifact.digest
    assert (info["num_concepts"], info["k"]) == (64, 8)
    assert {stream["name"]: stream["accepts"] for stream in info["streams"]} == {
        "tiny_a": ["image", "activations"],
        "tiny_b": ["image", "activations"],
        "tiny_text": ["text", "activations"],
        "imported": ["activations"],
    }
    assert info["limits"]["items"] == 256
    assert info["provider"] == "CPUExecutionProvider"
