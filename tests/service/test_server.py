"""The service as BentoML runs it: a real process, a real socket."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from koine.artifact import Artifact
from tests.service.inputs import b64, file_bytes, image_item, png
from tests.service.process import BENTOML, ROOT, Server, bentoml_serve, environment

TEXT = {"inputs": [{"text": "a dog"}]}
FORBIDDEN = ("torch", "torchvision", "timm", "open_clip", "transformers", "training")


@pytest.fixture(scope="module")
def server(tiny_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {
        "KOINE_ARTIFACT": str(tiny_artifact.path),
        "KOINE_PROVIDER": "cpu",
        "KOINE_MAX_BODY_BYTES": str(4 * 2**20),
        "KOINE_WORKERS": "2",
    }
    with bentoml_serve(tmp_path_factory.mktemp("bentoml"), settings=settings) as server:
        wait_for_metric(server, "koine_ready", 2)
        yield server


def metric(server: Server, name: str) -> float:
    """One sample of `/metrics`, over all workers."""
    lines = server.client.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name} "))


def wait_for_metric(server: Server, name: str, value: float, seconds: float = 60) -> None:
    """Returns when the sample has this value."""
    deadline = time.monotonic() + seconds
    while metric(server, name) != value:
        assert time.monotonic() < deadline, f"{name} is {metric(server, name)}, not {value}"
        time.sleep(0.1)


def test_importing_the_service_loads_no_training_code(tmp_path: Path) -> None:
    code = f"""
import sys, service.app
print([m for m in sys.modules if m.split(".")[0] in {FORBIDDEN}])
"""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(tmp_path), capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"


def test_real_requests_are_answered(server: Server) -> None:
    body = {"inputs": [image_item(1), {"text": "a dog on grass"}]}
    answer = server.client.post("/v1/encode", json=body)
    assert answer.status_code == 200, answer.text
    assert [list(r["codes"]) for r in answer.json()["results"]] == [
        ["tiny_a", "tiny_b"], ["tiny_text"],
    ]  # fmt: skip
    raw = server.client.post("/v1/encode", content=png(1), headers={"content-type": "image/png"})
    assert raw.json()["results"][0]["codes"].keys() == {"tiny_a", "tiny_b"}
    form = server.client.post("/v1/encode", files={"image": ("a.png", png(1), "image/png")})
    assert form.json()["results"][0]["codes"].keys() == {"tiny_a", "tiny_b"}


def test_clients_share_batches_and_workers_share_counters(server: Server) -> None:
    async def burst() -> list[int]:
        async with httpx.AsyncClient(base_url=server.client.base_url, timeout=30) as client:
            bodies = [{"inputs": [{"text": "a dog"}] * (1 + n % 3)} for n in range(60)]
            work = [client.post("/v1/encode", json=body) for body in bodies]
            return [answer.status_code for answer in await asyncio.gather(*work)]

    def counts() -> list[float]:
        return [
            metric(server, 'koine_batch_items_count{queue="tiny_text"}'),
            metric(server, 'koine_batch_items_sum{queue="tiny_text"}'),
            metric(server, 'koine_items_total{modality="text",outcome="ok"}'),
            metric(server, 'koine_requests_total{outcome="ok",route="/v1/encode"}'),
        ]

    before = counts()
    assert asyncio.run(burst()) == [200] * 60
    passes, items, answered, requests = np.subtract(counts(), before)
    assert (items, answered, requests) == (120, 120, 60)
    assert passes < 60
    assert metric(server, 'koine_queue_items{queue="tiny_text"}') == 0
    assert metric(server, "koine_inflight_requests") == 0


def test_a_body_beyond_the_limit_is_413_whether_declared_or_not(server: Server) -> None:
    headers = {"content-type": "application/json"}
    declared = server.client.post("/v1/encode", content=b" " * (5 * 2**20), headers=headers)
    assert declared.status_code == 413
    chunks = (b" " * 65536 for _ in range(100))
    streamed = server.client.post("/v1/encode", content=chunks, headers=headers)
    assert streamed.status_code == 413
    assert "4194304" in streamed.json()["detail"]


def test_koine_answers_every_path_itself(server: Server) -> None:
    assert server.client.get("/livez").json() == {"status": "alive"}
    assert server.client.get("/healthz").json() == {"status": "alive"}
    assert server.client.get("/readyz").json() == {"status": "ready"}
    for path in ("/", "/schema.json", "/docs.json", "/static_content/index.css"):
        answer = server.client.get(path)
        assert answer.status_code == 404, path
        assert answer.headers["content-type"] == "application/problem+json"
    assert "bentoml_" not in server.client.get("/metrics").text


def test_the_docs_page_needs_no_other_host(server: Server) -> None:
    page = server.client.get("/docs").text
    assert "http" not in page
    for asset in ("docs/assets/swagger-ui-bundle.js", "docs/assets/swagger-ui.css", "openapi.json"):
        assert asset in page
        assert server.client.get(f"/{asset}").status_code == 200


def test_nothing_is_logged_for_a_request(server: Server) -> None:
    before = server.log
    server.client.post("/v1/encode", json={"inputs": [{"text": "a secret word"}]})
    server.client.get("/nope")
    assert server.log == before


def test_a_request_in_flight_survives_sigterm(tiny_artifact: Artifact, tmp_path: Path) -> None:
    settings = {"KOINE_ARTIFACT": str(tiny_artifact.path), "KOINE_PROVIDER": "cpu"}
    with bentoml_serve(tmp_path, settings=settings) as server:
        large = b64(file_bytes(Image.new("RGB", (1600, 1600)), "JPEG"))  # seconds of decoding
        body = {"inputs": [{"image": large}] * 100}
        answers: list[httpx.Response] = []
        sending = threading.Thread(
            target=lambda: answers.append(server.client.post("/v1/encode", json=body))
        )
        sending.start()
        with httpx.Client(base_url=server.client.base_url) as other:
            while "koine_inflight_requests 0.0" in other.get("/metrics").text:
                assert sending.is_alive()
        server.process.send_signal(signal.SIGTERM)
        sending.join(30)
        assert [answer.status_code for answer in answers] == [200]
        assert all("codes" in result for result in answers[0].json()["results"])
        assert server.process.wait(20) == 0


@pytest.mark.slow
def test_a_killed_worker_comes_back_and_is_not_counted(server: Server) -> None:
    before = psutil.Process(server.process.pid).children()
    before[0].kill()
    psutil.wait_procs(before[:1], timeout=20)
    wait_for_metric(server, "koine_ready", 1)
    wait_for_metric(server, "koine_ready", 2)
    after = psutil.Process(server.process.pid).children()
    assert len(after) == 2
    assert len({process.pid for process in (*before, *after)}) == 3
    for _ in range(10):
        assert server.client.post("/v1/encode", json=TEXT).status_code == 200


def test_no_artifact_is_one_sentence(tmp_path: Path) -> None:
    run = subprocess.run(
        [str(BENTOML), "serve", "service.app:ConceptService", "--port", "0"], cwd=ROOT,
        env=environment(tmp_path), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert run.returncode == 1
    assert (run.stdout + run.stderr).splitlines() == [
        "koine: The artifact cannot be used: KOINE_ARTIFACT is not set; set it to the directory "
        "that `export` wrote, such as KOINE_ARTIFACT=runs/demo/artifact"
    ]
