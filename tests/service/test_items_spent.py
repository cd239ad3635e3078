"""Every endpoint that encodes takes its items from the key's rate, before it encodes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from koine.artifact import Artifact
from tests.service.access.keyring import add
from tests.service.conftest import serving
from tests.service.inputs import b64, png
from tests.service.test_encode import IMPORTED
from tests.service.test_unhappy_requests import problem_of

ITEM = {"text": "a dog", "activations": IMPORTED}
REQUESTS: dict[str, Any] = {
    "/v1/encode": {"inputs": [ITEM] * 4},
    "/v1/embeddings": {"input": ["a dog"] * 4},
    "/v1/compare": {"inputs": [ITEM] * 4},
    "/v1/translate": {"inputs": [ITEM] * 4, "to": "tiny_a"},
    "/v2/models/tiny/infer": {
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [4], "data": ["a"] * 4}]
    },
}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A keys file, and the secret of a key for each endpoint: each may send six items."""
    path: Path = tmp_path_factory.mktemp("keys") / "keys.jsonl"
    secrets = {
        url: add(path, f"key{n}", "encode", items_per_minute=6) for n, url in enumerate(REQUESTS)
    }
    more = {"localiser": add(path, "localiser", "encode", items_per_minute=6)}
    more["reader"] = add(path, "reader", "read")
    return {"file": str(path), **more, **secrets}


@pytest.fixture(scope="module")
def closed(tiny_artifact: Artifact, keys: dict[str, str]) -> Iterator[TestClient]:
    with serving(tiny_artifact, keys_file=keys["file"]) as client:
        yield client


@pytest.mark.parametrize("url", REQUESTS)
def test_items_are_spent(closed: TestClient, keys: dict[str, str], url: str) -> None:
    headers = {"authorization": f"Bearer {keys[url]}"}
    answers = [closed.post(url, json=REQUESTS[url], headers=headers) for _ in range(3)]
    assert answers[0].status_code == 200, answers[0].text
    assert answers[-1].status_code == 429
    assert "6 items a minute" in answers[-1].json()["detail"]


def test_localising_spends_an_item(closed: TestClient, keys: dict[str, str]) -> None:
    body = {"image": b64(png(1)), "concept": 5}
    headers = {"authorization": f"Bearer {keys['localiser']}"}
    answers = [closed.post("/v1/localize", json=body, headers=headers) for _ in range(8)]
    assert answers[0].status_code == 400  # the dictionary has no localiser, as the detail says
    assert answers[-1].status_code == 429
    headers = {"authorization": f"Bearer {keys['reader']}"}
    assert closed.post("/v1/localize", json=body, headers=headers).status_code == 403


@pytest.mark.parametrize("url", REQUESTS)
def test_a_key_that_may_read_may_not_encode(
    closed: TestClient, keys: dict[str, str], url: str
) -> None:
    headers = {"authorization": f"Bearer {keys['reader']}"}
    answer = closed.post(url, json=REQUESTS[url], headers=headers)
    assert answer.status_code == 403
    assert ("error" in answer.json()) == url.startswith("/v2")


def test_concepts_and_models_can_be_read(closed: TestClient, keys: dict[str, str]) -> None:
    headers = {"authorization": f"Bearer {keys['reader']}"}
    for url in ("/v1/concepts", "/v1/concepts/1", "/v2", "/v2/models/tiny"):
        assert closed.get(url, headers=headers).status_code == 200
        refused = closed.get(url)
        assert refused.status_code == 401
        assert ("error" in refused.json()) == url.startswith("/v2")
        if "error" not in refused.json():
            problem_of(refused, 401)
