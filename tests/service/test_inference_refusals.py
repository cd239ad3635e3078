"""Requests to `/v2/…/infer` that cannot be read: problem+json that Triton's clients can show."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.framing import LENGTH_HEADER
from tests.service.test_inference import INFER, TEXT, refused, send, strings, tensor

BAD: dict[str, tuple[Any, str]] = {
    "no inputs": ({}, "`inputs` is missing"),
    "empty": ({"inputs": []}, "at least 1"),
    "too many": ({"inputs": [TEXT] * 257}, "at most 256"),
    "outputs too many": ({"inputs": [TEXT], "outputs": [{"name": "x"}] * 257}, "at most 256"),
    "unknown key": ({"inputs": [TEXT], "x": 1}, "unknown key"),
    "shared memory": (
        {"inputs": [tensor("text", "BYTES", [1], parameters={"shared_memory_region": "x"})]},
        "unknown key",
    ),
    "classification": (
        {"inputs": [TEXT], "outputs": [{"name": "a", "parameters": {"classification": 3}}]},
        "unknown key",
    ),
    "neither data nor size": ({"inputs": [tensor("text", "BYTES", [1])]}, "must have either"),
    "both": (
        {"inputs": [{**TEXT, "parameters": {"binary_data_size": 0}}]}, "must have either",
    ),
    "INT64": ({"inputs": [tensor("activations.imported", "INT64", [1, 1], data=[1])]}, "FP32"),
    "INT32": ({"inputs": [tensor("activations.imported", "INT32", [1, 1], data=[1e300])]}, "FP32"),
    "FP32 as text": ({"inputs": [tensor("text", "FP32", [1], data=[1])]}, "is BYTES"),
    "unknown input": ({"inputs": [tensor("x", "BYTES", [1], data=["a"])]}, "unknown input"),
    "unknown stream": (
        {"inputs": [tensor("activations.x", "FP32", [1, 1], data=[1])]}, "'x' is no stream",
    ),
    "input twice": ({"inputs": [TEXT, TEXT]}, "given twice"),
    "output twice": ({"inputs": [TEXT], "outputs": [{"name": "tiny_text.fvu"}] * 2}, "given twice"),
    "unknown output": ({"inputs": [TEXT], "outputs": [{"name": "x"}]}, "unknown output"),
    "shape too long": ({"inputs": [tensor("text", "BYTES", [1, 1, 1], data=["a"])]}, "at most 2"),
    "negative": ({"inputs": [tensor("text", "BYTES", [-1], data=["a"])]}, "greater than or equal"),
    "wrong count": ({"inputs": [tensor("text", "BYTES", [3], data=["a"])]}, "has 1 elements"),
    "no items": ({"inputs": [tensor("text", "BYTES", [0], data=[])]}, "N from 1"),
    "ragged": (
        {"inputs": [tensor("activations.imported", "FP32", [2, 2], data=[[1, 2, 3], [4]])]},
        "rows of 2",
    ),
    "numbers as text": ({"inputs": [tensor("text", "BYTES", [1], data=[1])]}, "valid string"),
    "text as numbers": (
        {"inputs": [tensor("activations.imported", "FP32", [1, 1], data=["1"])]}, "valid number",
    ),
    "deep": (
        {"inputs": [tensor("activations.imported", "FP32", [1, 1], data=[[[1]]])]}, "valid number",
    ),
    "differing N": (
        {"inputs": [TEXT, tensor("activations.imported", "FP32", [1, 1], data=[1])]}, "differ",
    ),
    "no base64": ({"inputs": [tensor("image", "BYTES", [1], data=["!"])]}, "item 0: "),
    "beyond float32": (
        {"inputs": [tensor("activations.imported", "FP32", [1, 10], data=[1e39] * 10)]}, "float32",
    ),
    "wrong width": (
        {"inputs": [tensor("activations.imported", "FP32", [1, 1], data=[1])]}, "10 activations",
    ),
    "unknown parameter": ({"inputs": [TEXT], "parameters": {"topk": 3}}, "unknown parameter"),
    "odd partial": ({"inputs": [TEXT], "parameters": {"partial": "yes"}}, "true or false"),
    "odd binary_data_output": (
        {"inputs": [TEXT], "parameters": {"binary_data_output": 1}}, "true or false",
    ),
    "sequence": ({"inputs": [TEXT], "parameters": {"sequence_id": 1}}, "unknown parameter"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_read_is_400(client: TestClient, case: str) -> None:
    asked, words = BAD[case]
    assert words in refused(send(client, asked))


def test_too_many_items_are_413(client: TestClient) -> None:
    text = tensor("text", "BYTES", [257], data=["a"] * 257)
    assert "limit is 256" in refused(send(client, {"inputs": [text]}), 413)


SIZED = tensor("text", "BYTES", [1], parameters={"binary_data_size": 9})


@pytest.mark.parametrize(
    ("length", "raw", "words"),
    [
        (None, b"", "9, but 0 bytes are left"),
        ("x", b"", "must be a number"),
        ("-1", b"", "must be a number"),
        ("²", b"", "must be a number"),
        ("0", b"", "is 0"),
        ("99999", b"", "is 99999"),
        ("999999999999999", b"", "must be a number"),
        ("5", b"", "not JSON"),
        ("own", b"12345678", "8 bytes are left"),
        ("own", strings(b"a dog") + b"x", "1 bytes of the body belong to no input"),
        ("own", b"\xff\xff\xff\xffaaaaa", "not 1 elements"),
        ("own", b"\x00\x00\x00\x00" + b"aaaaa", "not 1 elements"),
        ("own", b"\x05\x00\x00\x00\xff\xfe\xff\xfe\xff", "not UTF-8"),
    ],
)
def test_broken_framing_is_400(
    client: TestClient, length: str | None, raw: bytes, words: str
) -> None:
    header = json.dumps({"inputs": [SIZED]}).encode()
    length = str(len(header)) if length == "own" else length
    headers = {} if length is None else {LENGTH_HEADER.encode(): length.encode()}
    answer = client.post(INFER, content=header + raw, headers=headers)
    assert words in refused(answer)
