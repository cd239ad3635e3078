"""The Bento serves from an environment that has the serving lock and nothing else: no torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from koine.artifact import Artifact
from tests.service.inputs import image_item
from tests.service.process import BENTOML, ROOT, bentoml_serve, environment

UV = Path(sys.executable).with_name("uv")


def checked(command: list[str], folder: Path, env: dict[str, str]) -> str:
    """What a command that must succeed prints."""
    run = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.mark.slow
def test_the_bento_serves_without_torch(tiny_artifact: Artifact, tmp_path: Path) -> None:
    home, away, venv = tmp_path / "bentoml", tmp_path / "away", tmp_path / "venv"
    home.mkdir()
    away.mkdir()
    env = environment(home)
    tag = checked([str(BENTOML), "build", "-o", "tag"], ROOT, env).split("__tag__:")[1].strip()
    checked([str(UV), "venv", "-q", "--python", sys.executable, str(venv)], away, env)
    install = [str(UV), "pip", "sync", "-q", "--require-hashes", "--link-mode", "hardlink"]
    lock = str(ROOT / "requirements" / "serving.lock")
    checked([*install, lock], away, env | {"VIRTUAL_ENV": str(venv)})
    torch = ["-c", "import importlib.util as i; print(i.find_spec('torch'))"]
    assert checked([str(venv / "bin" / "python"), *torch], away, env).strip() == "None"
    # a relative path must mean the folder that the server was started in, not the Bento's
    artifact = os.path.relpath(tiny_artifact.path, away)
    with bentoml_serve(
        home,
        settings={"KOINE_ARTIFACT": artifact, "KOINE_PROVIDER": "cpu"},
        command=(str(venv / "bin" / "bentoml"), "serve", tag),
        folder=away,
    ) as server:
        body = {"inputs": [image_item(1), {"text": "a dog"}]}
        answer = server.client.post("/v1/encode", json=body)
        assert answer.status_code == 200, answer.text
        assert all("codes" in result for result in answer.json()["results"])
        assert server.client.get("/docs/assets/swagger-ui-bundle.js").status_code == 200
