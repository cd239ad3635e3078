"""`POST /v1/translate`: another stream's activations from an item's codes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from koine.artifact import Artifact
from tests.service.conftest import serving
from tests.service.inputs import image_item
from tests.service.labelled import labelled
from tests.service.test_encode import IMPORTED, encode
from tests.service.test_unhappy_requests import problem_of
from tests.tiny import random_weights


@pytest.fixture(scope="module")
def named(
    tiny_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestClient]:
    with serving(labelled(tiny_artifact, tmp_path_factory.mktemp("fvu") / "artifact")) as client:
        yield client


def translate(client: TestClient, inputs: list[Any], **options: Any) -> list[dict[str, Any]]:
    answer = client.post("/v1/translate", json={"inputs": inputs, **options})
    assert answer.status_code == 200, answer.text
    assert answer.json()["dictionary"] == "tiny@0.1"
    return answer.json()["results"]


def test_codes_of_every_other_stream_are_decoded(named: TestClient) -> None:
    items = [
        image_item(1, text="a dog"),
        {"activations": IMPORTED},
        {"text": "a"},
        image_item(2),
        {"image": "!"},
    ]
    results = translate(named, items, to="tiny_text")
    codes = encode(named, items)
    assert [sorted(result.get("from", {})) for result in results] == [
        ["tiny_a", "tiny_b"], ["imported"], [], ["tiny_a", "tiny_b"], [],
    ]  # fmt: skip
    w = random_weights(20, 2)
    for n in (0, 1, 3):
        for name, translation in results[n]["from"].items():
            code = codes[n]["codes"][name]
            z_D = np.array(code["values"]) @ w.dictionary_CD[code["indices"]] + w.pre_bias_D
            want_D = z_D / w.scale + w.shift_D
            assert translation.keys() == {"activations", "expected_fvu"}
            np.testing.assert_allclose(translation["activations"], want_D, rtol=1e-4, atol=1e-5)
    assert (
        "the item has a text, which none of the streams asked for reads"
        in results[2]["error"]["detail"]
    )
    assert results[4]["error"]["type"] == "urn:koine:error:image"


def test_expected_fvu_is_the_reports_own_or_null(named: TestClient) -> None:
    (result,) = translate(named, [image_item(1)], to="tiny_text")
    assert result["from"]["tiny_a"]["expected_fvu"] == 0.375
    assert result["from"]["tiny_b"]["expected_fvu"] is None  # its joint figure is no answer


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"inputs": [{"text": "a"}]}, 400, "`to` is missing"),
        ({"inputs": [{"text": "a"}], "to": "x"}, 400, "it has tiny_a"),
        ({"inputs": [], "to": "tiny_a"}, 400, "at least 1"),
        ({"inputs": [{"text": "a"}], "to": "tiny_a", "streams": ["x"]}, 400, "unknown key"),
        ({"inputs": [{"text": "a"}], "to": "tiny_a", "dictionary": "x"}, 404, "tiny@0.1"),
        ({"inputs": [{"text": "a"}] * 257, "to": "tiny_a"}, 413, "limit is 256"),
    ],
)
def test_refusals(named: TestClient, body: Any, status: int, words: str) -> None:
    assert words in problem_of(named.post("/v1/translate", json=body), status)
