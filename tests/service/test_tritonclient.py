"""Triton's own HTTP client, unmodified, against a real server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from koine.artifact import Artifact
from tests.service.inputs import image_item
from tests.service.process import ROOT, Server, bentoml_serve

ALONE = ("tiny_text.indices", "tiny_text.values", "tiny_text.fvu")
TEXTS = ["a dog", "red square on grass"]


@pytest.fixture(scope="module")
def server(tiny_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"KOINE_ARTIFACT": str(tiny_artifact.path), "KOINE_PROVIDER": "cpu"}
    with bentoml_serve(tmp_path_factory.mktemp("home"), settings=settings) as server:
        yield server


@pytest.fixture(scope="module")
def seen(server: Server) -> dict[str, Any]:
    """What the client got, in a process of its own: it patches sockets for gevent."""
    url = server.client.base_url
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/service/triton_session.py"), f"{url.host}:{url.port}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=Path(ROOT),
    )
    assert done.returncode == 0, done.stderr + server.log
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def codes(server: Server) -> list[dict[str, Any]]:
    """What `/v1/encode` says of the same items."""
    acts = np.linspace(-1, 1, 20, dtype=np.float32).reshape(2, 10)
    inputs = [
        image_item(n + 1, text=text, activations={"imported": acts[n].tolist()})
        for n, text in enumerate(TEXTS)
    ]
    return server.client.post("/v1/encode", json={"inputs": inputs}).json()["results"]


def same(got: dict[str, Any], codes: list[dict[str, Any]], stream: str) -> None:
    """The tensors hold these codes."""
    for n, result in enumerate(codes):
        want = result["codes"][stream]
        active = np.array(got[f"{stream}.indices"][n]) >= 0
        assert np.array(got[f"{stream}.indices"][n])[active].tolist() == want["indices"]
        values = np.array(got[f"{stream}.values"][n])[active]
        np.testing.assert_allclose(values, want["values"], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(got[f"{stream}.fvu"][n], want["fvu"], rtol=1e-5, atol=1e-6)


def test_health(seen: dict[str, Any]) -> None:
    assert seen["live"]
    assert seen["ready"]
    assert seen["model_ready"]
    assert seen["version_ready"]
    assert not seen["unknown_ready"]


def test_metadata_and_config(seen: dict[str, Any]) -> None:
    assert seen["server"]["name"] == "koine"
    assert "binary_tensor_data" in seen["server"]["extensions"]
    assert seen["metadata"]["name"] == seen["config"]["name"] == "tiny"
    assert len(seen["metadata"]["outputs"]) == len(seen["config"]["output"]) == 12


@pytest.mark.parametrize("form", ["texts", "json_texts", "gzip", "deflate"])
def test_texts(seen: dict[str, Any], codes: list[dict[str, Any]], form: str) -> None:
    assert tuple(seen[form]) == ALONE
    same(seen[form], codes, "tiny_text")


@pytest.mark.parametrize("stream", ["tiny_a", "tiny_b", "tiny_text", "imported"])
def test_images_texts_and_activations(
    seen: dict[str, Any], codes: list[dict[str, Any]], stream: str
) -> None:
    same(seen["all"], codes, stream)


def test_activations_as_json(seen: dict[str, Any], codes: list[dict[str, Any]]) -> None:
    same(seen["json_acts"], codes, "imported")


def test_options(seen: dict[str, Any], codes: list[dict[str, Any]]) -> None:
    assert set(seen["options"]) == {f"tiny_b.{kind}" for kind in ("indices", "values", "fvu")}
    for row, result in zip(seen["options"]["tiny_b.indices"], codes, strict=True):
        assert row[:2] == result["codes"]["tiny_b"]["indices"][:2]
        assert set(row[2:]) == {-1}


def test_partial(seen: dict[str, Any]) -> None:
    bad, good = seen["partial"]["tiny_text.indices"]
    assert set(bad) == {-1}
    assert set(good) != {-1}
    assert seen["partial"]["tiny_text.fvu"][0] is None


def test_async(seen: dict[str, Any], codes: list[dict[str, Any]]) -> None:
    assert seen["ids"] == [str(n) for n in range(4)]
    for got in seen["async"]:
        same(got, codes, "tiny_text")


def test_errors_are_told(seen: dict[str, Any]) -> None:
    assert seen["bad_item"]["status"] == "400"
    assert "item 0: the text is empty" in seen["bad_item"]["message"]
    assert seen["unknown_model"]["status"] == "404"
    assert "this service has tiny@0.1" in seen["unknown_model"]["message"]
    assert seen["unknown_output"]["status"] == "400"
    assert "unknown output `x`" in seen["unknown_output"]["message"]
