"""Requests that cannot be read as a whole: problem+json, and nothing is encoded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from koine.artifact import Artifact
from tests.service.conftest import serving
from tests.service.inputs import b64, file_bytes, png

JSON = {"content-type": "application/json"}


def problem_of(answer: Any, status: int) -> str:
    """The detail of an RFC 9457 answer with this status."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body.keys() - {"instance"} == {"type", "title", "status", "detail"}
    assert body["status"] == status
    return body["detail"]


UNREADABLE: dict[str, tuple[bytes, str]] = {
    "broken JSON": (b'{"inputs": [', "not JSON"),
    "no UTF-8": (b'{"inputs": ["\xff"]}', "not JSON"),
    "half a surrogate": (b'{"inputs": [{"text": "\\ud800"}]}', "not JSON"),
    "too deep": (b"[" * 5000 + b"]" * 5000, "recursion"),
    "endless number": (b'{"inputs": [{"text": ' + b"9" * 5000 + b"}]}", "out of range"),
    "a list": (b"[]", "object"),
    "no inputs": (b"{}", "`inputs` is missing"),
    "empty inputs": (b'{"inputs": []}', "at least 1"),
    "inputs no list": (b'{"inputs": {"text": "a"}}', "list"),
    "unknown key": (b'{"inputs": [{"text": "a"}], "stream": "x"}', "`stream`"),
    "unknown mode": (b'{"inputs": [{"text": "a"}], "mode": "both"}', "'joint'"),
    "top_k 0": (b'{"inputs": [{"text": "a"}], "top_k": 0}', "top_k"),
    "top_k text": (b'{"inputs": [{"text": "a"}], "top_k": "3"}', "top_k"),
    "unknown encoding": (b'{"inputs": [{"text": "a"}], "encoding": "zip"}', "'packed'"),
    "no streams": (b'{"inputs": [{"text": "a"}], "streams": []}', "streams"),
    "unknown stream": (b'{"inputs": [{"text": "a"}], "streams": ["x"]}', "it has tiny_a"),
    "empty body": (b"", "empty"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_unreadable_json_is_400(client: TestClient, case: str) -> None:
    body, words = UNREADABLE[case]
    assert words in problem_of(client.post("/v1/encode", content=body, headers=JSON), 400)


FORMS: dict[str, tuple[list[Any], str]] = {
    "no items": ([("top_k", (None, "3"))], "no `image` and no `text`"),
    "unknown option": ([("text", (None, "a")), ("k", (None, "3"))], "unknown key `k`"),
    "option twice": ([("text", (None, "a")), *[("top_k", (None, "3"))] * 2], "given twice"),
    "id twice": ([("text[x]", (None, "a"))] * 2, "its own ID"),
    "bad top_k": ([("text", (None, "a")), ("top_k", (None, "x"))], "top_k"),
    "no UTF-8": ([("text", (None, b"\xff\xfe"))], "no UTF-8"),
}


@pytest.mark.parametrize("case", FORMS)
def test_unreadable_forms_are_400(client: TestClient, case: str) -> None:
    parts, words = FORMS[case]
    assert words in problem_of(client.post("/v1/encode", files=parts), 400)


@pytest.mark.parametrize(
    ("content_type", "body", "words"),
    [
        ("multipart/form-data", b"--x\r\n\r\n--x--", "boundary"),
        ("multipart/form-data; boundary=x", b"no form at all", "multipart"),
        ("multipart/form-data; boundary=x",
         b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\nhalf', "ends early"),
        ("multipart/form-data; boundary=x",
         b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n", "no name"),
    ],
)  # fmt: skip
def test_malformed_forms_are_400(
    client: TestClient, content_type: str, body: bytes, words: str
) -> None:
    headers = {"content-type": content_type}
    assert words in problem_of(client.post("/v1/encode", content=body, headers=headers), 400)


def test_unknown_options_of_a_raw_image_are_400(client: TestClient) -> None:
    headers = {"content-type": "image/png"}
    answer = client.post("/v1/encode?topk=3", content=png(1), headers=headers)
    assert "`topk`" in problem_of(answer, 400)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded"])
def test_other_media_types_are_415(client: TestClient, content_type: str) -> None:
    answer = client.post("/v1/encode", content=b"x", headers={"content-type": content_type})
    assert "application/json" in problem_of(answer, 415)


def test_unknown_paths_and_methods_are_problems(client: TestClient) -> None:
    assert "/v1/nope" in problem_of(client.get("/v1/nope"), 404)
    assert "GET" in problem_of(client.get("/v1/encode"), 405)
    assert problem_of(client.post("/livez"), 405)


@pytest.fixture(scope="module")
def narrow(tiny_artifact: Artifact) -> Iterator[TestClient]:
    with serving(
        tiny_artifact, max_items=3, max_queue=3, max_body_bytes=4096, max_pixels=2000,
        max_text_chars=20,
    ) as client:  # fmt: skip
        yield client


def test_too_many_items_are_413(narrow: TestClient) -> None:
    answer = narrow.post("/v1/encode", json={"inputs": [{"text": "a"}] * 4})
    assert "limit is 3" in problem_of(answer, 413)
    answer = narrow.post("/v1/encode", files=[("text", (None, "a"))] * 4)
    assert "limit is 3" in problem_of(answer, 413)


def test_too_many_bytes_are_413(narrow: TestClient) -> None:
    answer = narrow.post("/v1/encode", content=b" " * 4097, headers=JSON)
    assert "has 4097 bytes, the limit is 4096" in problem_of(answer, 413)


def test_too_many_bytes_without_a_length_are_413(narrow: TestClient) -> None:
    answer = narrow.post("/v1/encode", content=iter([b" " * 1024] * 5), headers=JSON)
    assert "limit is 4096" in problem_of(answer, 413)


def test_limits_of_items_are_item_errors(narrow: TestClient) -> None:
    wide = b64(file_bytes(Image.new("RGB", (50, 41))))
    inputs = [{"image": wide}, {"text": "a dog " * 5}, {"text": "a dog"}]
    results = narrow.post("/v1/encode", json={"inputs": inputs}).json()["results"]
    assert "2,000 are read" in results[0]["error"]["detail"]
    assert "30 characters, the limit is 20" in results[1]["error"]["detail"]
    assert "codes" in results[2]
