"""`POST /v1/compare`: the pairs of streams of an item, and what they share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from koine.artifact import Artifact
from koine.codes import PAD
from koine.concepts import Concept
from service import compare as comparing
from service.jobs import Row
from tests.service.conftest import serving
from tests.service.inputs import image_item
from tests.service.labelled import LABELS, labelled
from tests.service.test_encode import IMPORTED, encode
from tests.service.test_unhappy_requests import problem_of


@pytest.fixture(scope="module")
def named(
    tiny_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestClient]:
    folder: Path = tmp_path_factory.mktemp("named") / "artifact"
    with serving(labelled(tiny_artifact, folder)) as client:
        yield client


def compare(client: TestClient, inputs: list[Any], **options: Any) -> list[dict[str, Any]]:
    answer = client.post("/v1/compare", json={"inputs": inputs, **options})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body.keys() == {"dictionary", "results"}
    assert body["dictionary"] == "tiny@0.1"
    return body["results"]


def test_pairs_say_what_the_codes_share(named: TestClient) -> None:
    items = [image_item(n, text="red square on grass") for n in range(8)]
    results = compare(named, items)
    codes = encode(named, items)
    shared_somewhere = 0
    for result, encoded in zip(results, codes, strict=True):
        assert result.keys() == {"id", "pairs"}
        assert list(result["pairs"]) == ["tiny_a|tiny_b", "tiny_a|tiny_text", "tiny_b|tiny_text"]
        for name, pair in result["pairs"].items():
            a, b = (_values(encoded["codes"][stream]) for stream in name.split("|"))
            shared_somewhere += len(a.keys() & b.keys())
            assert pair["jaccard"] == len(a.keys() & b.keys()) / len(a.keys() | b.keys())
            _same(pair["shared"], {c: (a[c] + b[c]) / 2 for c in a.keys() & b.keys()})
            _same(pair["only_a"], {c: a[c] for c in a.keys() - b.keys()})
            _same(pair["only_b"], {c: b[c] for c in b.keys() - a.keys()})
    assert shared_somewhere


def _values(codes: dict[str, Any]) -> dict[int, float]:
    return dict(zip(codes["indices"], codes["values"], strict=True))


def _same(concepts: list[dict[str, Any]], want: dict[int, float]) -> None:
    values = [concept["value"] for concept in concepts]
    assert values == sorted(values, reverse=True)
    assert {concept["id"] for concept in concepts} == want.keys()
    for concept in concepts:
        assert concept.keys() == {"id", "label", "status", "score", "rate", "value"}
        assert concept["value"] == pytest.approx(want[concept["id"]], rel=1e-5)
        assert concept["label"] == LABELS.get(concept["id"])
        assert concept["rate"].keys() == {"tiny_a", "tiny_b", "tiny_text", "imported"}


def test_a_stream_alone_is_an_item_error_that_says_what_to_send(named: TestClient) -> None:
    inputs = [
        {"text": "a dog"},
        {"id": "x", "text": "a dog", "activations": IMPORTED},
        {"text": ""},
    ]
    first, second, third = compare(named, inputs)
    assert "`tiny_text`" in first["error"]["detail"]
    assert "send an image" in first["error"]["detail"]
    assert second["id"] == "x"
    assert list(second["pairs"]) == ["tiny_text|imported"]
    assert third["error"]["type"] == "urn:koine:error:text"


def test_streams_can_be_chosen_and_come_in_the_dictionarys_order(named: TestClient) -> None:
    item = image_item(1, text="a dog")
    (result,) = compare(named, [item], streams=["tiny_text", "tiny_a"])
    assert list(result["pairs"]) == ["tiny_a|tiny_text"]


def test_a_stream_named_twice_is_one(named: TestClient) -> None:
    (result,) = compare(named, [{"text": "a dog"}], streams=["tiny_text", "tiny_text"])
    assert "one stream" in result["error"]["detail"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 400, "`inputs` is missing"),
        ({"inputs": []}, 400, "at least 1"),
        ({"inputs": [{"text": "a"}], "streams": ["tiny_a"]}, 400, "at least 2"),
        ({"inputs": [{"text": "a"}], "streams": ["tiny_a", "x"]}, 400, "it has tiny_a"),
        ({"inputs": [{"text": "a"}], "mode": "joint"}, 400, "unknown key `mode`"),
        ({"inputs": [{"text": "a"}], "dictionary": "x"}, 404, "tiny@0.1"),
        ({"inputs": [{"text": "a"}] * 257}, 413, "limit is 256"),
    ],
)
def test_refusals(named: TestClient, body: Any, status: int, words: str) -> None:
    assert words in problem_of(named.post("/v1/compare", json=body), status)


def test_nothing_active_on_either_side_has_no_jaccard() -> None:
    empty = Row(np.full(3, PAD, np.int32), np.zeros(3, np.float32), 1.0)
    some = Row(np.array([2, 0, PAD], np.int32), np.array([3, 3, 0], np.float32), 0.5)
    concepts = [Concept(id=c) for c in range(3)]
    result = comparing._compared({"b": empty, "a": empty, "c": some}, ["a", "b", "c"], concepts)
    assert isinstance(result, dict)
    assert list(result) == ["a|b", "a|c", "b|c"]
    assert result["a|b"] == (None, [], [], [])
    assert result["a|c"].jaccard == 0
    assert [valued.concept.id for valued in result["a|c"].only_b] == [0, 2]  # ties by id
