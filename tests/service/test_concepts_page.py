"""`GET /concepts` in a real browser: the list, a change, and a conflict."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from koine.artifact import Artifact
from service.page import CONCEPTS_PAGE
from tests.service.labelled import labelled
from tests.service.process import Server, bentoml_serve


@pytest.fixture(scope="module")
def server(tiny_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("home")
    artifact = labelled(tiny_artifact, home / "artifact")
    (home / "labels").mkdir()
    settings = {"KOINE_ARTIFACT": str(artifact.path), "KOINE_PROVIDER": "cpu"}
    settings |= {"KOINE_LABELS": str(home / "labels")}
    with bentoml_serve(home, settings=settings) as server:
        yield server


def test_the_page_loads_nothing_from_elsewhere() -> None:
    assert re.findall(r"(?:src|href)=\"(?!data:)", CONCEPTS_PAGE) == []
    assert "innerHTML" not in CONCEPTS_PAGE
    assert not re.search(r"https?://", CONCEPTS_PAGE)


def browse(server: Server, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None and os.environ.get("CI") != "true":
        pytest.skip("no Chromium: install the system package `chromium` to run this test")
    assert path is not None, "CI must have Chromium: run tests/system_packages.sh as root"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    options += [f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr"]
    options += ["--virtual-time-budget=20000", "--window-size=1200,900", *more]
    command = [path, *options, f"{server.client.base_url}/concepts"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def test_a_browser_lists_concepts_under_the_policy(server: Server, tmp_path: Path) -> None:
    policy = server.client.get("/concepts").headers["content-security-policy"]
    assert "unsafe" not in policy
    tag = {"if-match": server.client.get("/v1/concepts/7").headers["etag"]}
    wanted = {"status": "renamed", "label": "<b>hound</b>"}
    assert server.client.patch("/v1/concepts/7", json=wanted, headers=tag).status_code == 200
    done = browse(server, tmp_path, "--dump-dom")
    assert done.stdout.count("<article") == 24
    assert "&lt;b&gt;hound&lt;/b&gt;" in done.stdout, done.stderr
    assert "a hound, square lawn" in done.stdout
    assert 'src="blob:' in done.stdout
    # the browser tells of the two pictures that the archive does not give; nothing is blocked
    told = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert [line for line in told if "503" not in line] == []
