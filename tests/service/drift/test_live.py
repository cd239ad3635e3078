"""`GET /v1/drift` over real traffic: quiet, changed, too little, and not to be had."""

from __future__ import annotations

import time
from typing import Any

from starlette.testclient import TestClient

from koine.artifact import Artifact
from service.schemas import DriftResponse
from tests.service.conftest import serving
from tests.service.test_unhappy_requests import problem_of


def send(client: TestClient, *texts: str) -> None:
    for start in range(0, len(texts), 200):
        inputs = [{"text": text} for text in texts[start : start + 200]]
        answer = client.post("/v1/encode", json={"inputs": inputs})
        assert answer.status_code == 200, answer.text


def drift(client: TestClient, **query: Any) -> dict[str, Any]:
    answer = client.get("/v1/drift", params=query)
    assert answer.status_code == 200, answer.text
    DriftResponse.model_validate(answer.json())
    return answer.json()


def test_too_little_is_no_verdict(tiny_artifact: Artifact) -> None:
    with serving(tiny_artifact) as client:
        told = drift(client)
        assert told["dictionary"] == tiny_artifact.manifest.title
        assert {each["state"] for each in told["streams"].values()} <= {"insufficient_data"}
        send(client, *(f"text {n}" for n in range(20)))
        text = drift(client)["streams"]["tiny_text"]
        assert (text["state"], text["items"]) == ("insufficient_data", 20)
        assert "needs 200" in text["says"]
        assert drift(client, window_s=60)["to"] - told["from"] >= 60


def test_traffic_of_another_world_is_told_in_words(tiny_artifact: Artifact) -> None:
    with serving(tiny_artifact, drift_bucket_s=1) as client:
        for part in range(8):  # a block is a second here: no keys, so one client
            send(client, *(f"{part} " + "zq " * (n % 60) for n in range(60)))
            time.sleep(1)
        text = drift(client)["streams"]["tiny_text"]
    assert text["items"] >= 400
    assert text["blocks"] >= 5
    assert text["state"] == "drift"
    assert "→" in text["says"]


def test_what_cannot_be_had_is_told(tiny_artifact: Artifact) -> None:
    with serving(tiny_artifact, drift=False) as client:
        assert "counts no concepts" in problem_of(client.get("/v1/drift"), 503)
    with serving(tiny_artifact, redis_url="redis://127.0.0.1:1") as client:
        send(client, "a dog")
        assert "cannot be read now" in problem_of(client.get("/v1/drift"), 503)
        for query in ("window_s=0", "window_s=x", "other=1"):
            problem_of(client.get(f"/v1/drift?{query}"), 400)
        problem_of(client.get("/v1/drift?dictionary=nowhere"), 404)
