"""`POST /v1/embeddings`: OpenAI's shape, as its client sends and reads it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from koine.artifact import Artifact
from tests.service.conftest import serving
from tests.service.inputs import image_item
from tests.service.test_encode import IMPORTED, encode
from tests.service.test_unhappy_requests import problem_of
from tests.tiny import NUM_CONCEPTS

TEXTS = ["a dog", "red square on grass"]
ODD = "text that nobody knows " * 9
"""More words than the tokenizer's 12."""


def embed(client: TestClient, input_: Any, **options: Any) -> dict[str, Any]:
    answer = client.post("/v1/embeddings", json={"input": input_, **options})
    assert answer.status_code == 200, answer.text
    return answer.json()


def dense(codes: dict[str, Any]) -> np.ndarray:
    dense_C = np.zeros(NUM_CONCEPTS, np.float32)
    dense_C[codes["indices"]] = codes["values"]
    return dense_C


def refused(client: TestClient, status: int = 400, **body: Any) -> str:
    return problem_of(client.post("/v1/embeddings", json=body), status)


def test_a_list_of_texts_as_dense_numbers(client: TestClient) -> None:
    answer = embed(client, TEXTS)
    assert answer.keys() == {"object", "data", "model", "usage"}
    assert answer["object"] == "list"
    assert answer["model"] == "tiny@0.1"
    results = encode(client, [{"text": text} for text in TEXTS], streams=["tiny_text"])
    for n, (entry, result) in enumerate(zip(answer["data"], results, strict=True)):
        assert entry.keys() == {"object", "index", "embedding"}
        assert (entry["object"], entry["index"]) == ("embedding", n)
        want = dense(result["codes"]["tiny_text"])
        assert want.any()
        np.testing.assert_allclose(entry["embedding"], want, rtol=1e-5, atol=1e-6)


def test_what_the_openai_client_sends_and_how_it_reads_the_answer(client: TestClient) -> None:
    # openai-python 1.x and 2.x: `client.embeddings.create(model=..., input=...)`
    sent = client.post(
        "/v1/embeddings",
        content=json.dumps({"input": TEXTS, "model": "tiny", "encoding_format": "base64"}),
        headers={
            "Accept": "application/json",
            "Content-Type": "application/json",
            "Authorization": "Bearer sk-anything",
            "User-Agent": "OpenAI/Python 1.99.0",
            "X-Stainless-Lang": "python",
            "X-Stainless-Retry-Count": "0",
            "x-stainless-read-timeout": "600",
        },
    )
    assert sent.status_code == 200, sent.text
    body = sent.json()
    assert body["data"]
    floats = embed(client, TEXTS)["data"]
    for entry, other in zip(body["data"], floats, strict=True):
        decoded = np.frombuffer(base64.b64decode(entry["embedding"]), dtype="float32").tolist()
        assert len(decoded) == NUM_CONCEPTS
        np.testing.assert_allclose(decoded, other["embedding"], rtol=1e-5, atol=1e-6)
    assert {type(value) for value in body["usage"].values()} == {int}


def test_sparse_lists_the_active_concepts(client: TestClient) -> None:
    (entry,) = embed(client, "a dog", encoding_format="sparse")["data"]
    (result,) = encode(client, [{"text": "a dog"}])
    assert entry["embedding"].keys() == {"indices", "values"}
    assert entry["embedding"]["indices"] == result["codes"]["tiny_text"]["indices"]
    np.testing.assert_allclose(
        entry["embedding"]["values"], result["codes"]["tiny_text"]["values"], rtol=1e-5
    )


def test_items_are_answered_with_the_first_stream_that_fits(client: TestClient) -> None:
    inputs = [image_item(1, text="a dog"), "a dog", {"activations": IMPORTED}]
    data = embed(client, inputs, encoding_format="sparse")["data"]
    (both,) = encode(client, [image_item(1)])
    (imported,) = encode(client, [{"activations": IMPORTED}])
    (text,) = encode(client, [{"text": "a dog"}])
    wanted = [both["codes"]["tiny_a"], text["codes"]["tiny_text"], imported["codes"]["imported"]]
    assert [d["embedding"]["indices"] for d in data] == [codes["indices"] for codes in wanted]


def test_the_stream_can_be_chosen(client: TestClient) -> None:
    (entry,) = embed(client, [image_item(1)], encoding_format="sparse", stream="tiny_b")["data"]
    (result,) = encode(client, [image_item(1)])
    assert entry["embedding"]["indices"] == result["codes"]["tiny_b"]["indices"]


def test_usage_counts_the_tokens_that_were_read(client: TestClient) -> None:
    assert embed(client, "a dog")["usage"] == {"prompt_tokens": 2, "total_tokens": 2}
    assert embed(client, [*TEXTS, "cat"])["usage"]["prompt_tokens"] == 2 + 4 + 1
    assert embed(client, ODD)["usage"]["total_tokens"] == 12
    assert embed(client, [image_item(1)])["usage"]["prompt_tokens"] == 0
    own = {"text": "a dog", "activations": {"tiny_text": [0.5] * 20}}
    assert embed(client, [own], stream="tiny_text")["usage"]["prompt_tokens"] == 0


@pytest.mark.parametrize("model", ["tiny", "tiny@0.1", None])
def test_a_model_is_a_dictionary(client: TestClient, model: str | None) -> None:
    assert embed(client, "a dog", model=model, user="me")["model"] == "tiny@0.1"


def test_refusals(client: TestClient) -> None:
    assert "tiny@0.1" in refused(client, 404, input="a", model="text-embedding-3-small")
    assert "64" in refused(client, input="a", dimensions=256)
    assert embed(client, "a", dimensions=64)
    assert "tiny_text" in refused(client, input="a", stream="nope")
    assert "which none of the streams" in refused(client, input="a", stream="tiny_a")
    assert "`input` is missing" in refused(client)
    assert "at least 1" in refused(client, input=[])
    assert "`input`" in refused(client, input=5)
    assert "'sparse'" in refused(client, input="a", encoding_format="int8")
    assert "unknown key `encoding`" in refused(client, input="a", encoding="json")
    answer = client.post("/v1/embeddings", content=b"x", headers={"content-type": "text/plain"})
    assert "application/json" in problem_of(answer, 415)


@pytest.mark.parametrize("tokens", [[1, 2, 3], [[1, 2], [3]], ["a", 5]])
def test_token_ids_are_refused_with_what_to_do(client: TestClient, tokens: Any) -> None:
    assert "another tokenizer" in refused(client, input=tokens)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("", "empty"),
        ({"text": " "}, "no word"),
        ({"image": "!"}, "base64"),
        ({}, "nothing to encode"),
        ({"txt": "a"}, "unknown key"),
        (None, "must be an object"),
        ({"activations": {"imported": [1]}}, "takes 10 activations"),
        ({"activations": {"x": [1]}}, "'x' is no stream"),
    ],
)
def test_one_bad_input_refuses_the_request_by_its_position(
    client: TestClient, bad: Any, words: str
) -> None:
    detail = refused(client, input=["a dog", image_item(1), bad, "cat"])
    assert "`input` 2: " in detail
    assert words in detail


@pytest.fixture(scope="module")
def narrow(tiny_artifact: Artifact) -> Iterator[TestClient]:
    with serving(tiny_artifact, max_items=3, max_queue=3) as client:
        yield client


def test_too_many_inputs_are_413(narrow: TestClient) -> None:
    assert "limit is 3" in refused(narrow, 413, input=["a"] * 4)
