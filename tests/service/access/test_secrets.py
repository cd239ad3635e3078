"""A real server behind keys: its log, answers and metrics hold none, and its docs page works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from koine.artifact import Artifact
from service.access.__main__ import main
from service.access.keys import new_secret
from tests.service.access.keyring import add
from tests.service.process import Server, bentoml_serve

TEXT = {"inputs": [{"text": "a dog"}]}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.jsonl"


@pytest.fixture(scope="module")
def secret(keys: Path) -> str:
    return add(keys, "search")


@pytest.fixture(scope="module")
def server(
    tiny_artifact: Artifact, keys: Path, secret: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    settings = {
        "KOINE_ARTIFACT": str(tiny_artifact.path),
        "KOINE_PROVIDER": "cpu",
        "KOINE_KEYS_FILE": str(keys),
    }
    with bentoml_serve(tmp_path_factory.mktemp("bentoml"), settings=settings) as server:
        yield server


def post(server: Server, key: str) -> httpx.Response:
    return server.client.post("/v1/encode", json=TEXT, headers={"authorization": f"Bearer {key}"})


def test_no_key_is_ever_written(server: Server, keys: Path, secret: str) -> None:
    wrong = new_secret()
    told = [post(server, secret), post(server, wrong)]
    assert [answer.status_code for answer in told] == [200, 401]
    told += [
        server.client.get("/v1/info", headers={"x-api-key": wrong}),
        server.client.get(f"/v1/{wrong}x", headers={"authorization": f"Basic {wrong}"}),
        server.client.patch("/v1/concepts/1", headers={"x-api-key": secret}),
        server.client.get("/metrics"),
    ]
    with keys.open("a") as out:
        out.write(f'{{"name": "{secret}"}}\n')  # a file with a fault, and a secret in it
    wait_for(server, "line 2")
    for text in (*(answer.text for answer in told), server.log):
        assert secret not in text
        assert wrong not in text
    assert all("server" not in answer.headers for answer in told)
    assert 'koine_rejected_requests_total{reason="auth"} 3.0' in told[-1].text
    assert 'koine_rejected_requests_total{reason="forbidden"} 1.0' in told[-1].text
    keys.write_text(keys.read_text().splitlines()[0] + "\n")


def wait_for(server: Server, words: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while words not in server.log:
        assert time.monotonic() < deadline, server.log
        time.sleep(0.1)


def test_a_key_that_is_revoked_ends_without_a_restart(server: Server, keys: Path) -> None:
    guest = add(keys, "guest")
    deadline = time.monotonic() + 60
    while post(server, guest).status_code != 200:
        assert time.monotonic() < deadline, server.log
        time.sleep(0.1)
    main(["revoke", "guest", "--file", str(keys)])
    while post(server, guest).status_code != 401:
        assert time.monotonic() < deadline, server.log
        time.sleep(0.1)


def test_a_browser_shows_the_docs_under_their_policy(server: Server, tmp_path: Path) -> None:
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None and os.environ.get("CI") != "true":
        pytest.skip("no Chromium: install the system package `chromium` to run this test")
    assert path is not None, "CI must have Chromium: run tests/system_packages.sh as root"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    options += [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr"]
    options += ["--virtual-time-budget=20000", "--dump-dom", f"{server.client.base_url}/docs"]
    done = subprocess.run([path, *options], capture_output=True, text=True, timeout=120, check=True)
    assert "/v1/encode" in done.stdout, done.stderr
    assert [line for line in done.stderr.splitlines() if re.search("CONSOLE", line)] == []


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", 0), ("0.0.0.0", 1)])
def test_an_open_service_warns_once_where_others_reach_it(
    tiny_artifact: Artifact, tmp_path: Path, host: str, warned: int
) -> None:
    settings = {
        "KOINE_ARTIFACT": str(tiny_artifact.path),
        "KOINE_PROVIDER": "cpu",
        "KOINE_WORKERS": "2",
    }
    with bentoml_serve(tmp_path, settings=settings, host=host) as server:
        deadline = time.monotonic() + 60
        while "koine_ready 2" not in server.client.get("/metrics").text:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert server.log.count("no API keys are configured") == warned
