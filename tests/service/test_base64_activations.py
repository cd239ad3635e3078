"""Activations as base64 of little-endian float32: the same codes as from numbers."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.reading import read_json
from tests.service.inputs import b64
from tests.service.test_encode import IMPORTED, encode, same

ROW = np.array(IMPORTED["imported"], "<f4")


def packed(row: np.ndarray) -> str:
    return b64(row.astype("<f4").tobytes())


def test_the_same_codes_as_from_numbers(client: TestClient) -> None:
    numbers, text = encode(
        client, [{"activations": IMPORTED}, {"activations": {"imported": packed(ROW)}}]
    )
    same(numbers["codes"], text["codes"])


def test_both_forms_mix_in_one_item(client: TestClient) -> None:
    tiny = np.linspace(-1, 1, 24)
    mixed, numbers = encode(
        client,
        [
            {"activations": {"imported": packed(ROW), "tiny_a": tiny.tolist()}},
            {"activations": {**IMPORTED, "tiny_a": tiny.tolist()}},
        ],
    )
    same(mixed["codes"], numbers["codes"])


def test_every_float32_is_read_as_it_is() -> None:
    bits = np.random.default_rng(5).integers(0, 2**32, 4096, dtype=np.uint32)
    row = bits.view(np.float32)
    body = json.dumps({"inputs": [{"activations": {"x": packed(row)}}]}).encode()
    (item,) = read_json(body, 1).items
    assert item.activations["x"].dtype == np.float32
    np.testing.assert_array_equal(item.activations["x"].view(np.uint32), bits)


def test_numbers_are_rounded_to_float32_once() -> None:
    numbers = np.random.default_rng(6).normal(size=4096)
    body = json.dumps({"inputs": [{"activations": {"x": numbers.tolist()}}]}).encode()
    (item,) = read_json(body, 1).items
    assert item.activations["x"].dtype == np.float32
    np.testing.assert_array_equal(item.activations["x"], numbers.astype(np.float32))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("!", "no base64"),
        ("é" * 8, "no base64"),
        ("AAAA AAA=", "no base64"),
        (packed(ROW)[:-1], "no base64"),
        (base64.urlsafe_b64encode(b"\xfb" * 40).decode(), "no base64"),
        (b64(b"12345"), "5 bytes"),
        ("", "got 0"),
        (packed(ROW[:9]), "takes 10 activations per item, got 9"),
        (packed(np.full(10, np.nan)), "10 values that are NaN"),
        (packed(np.full(10, 3e38)), "too large"),
    ],
)
def test_what_cannot_be_read_costs_its_item_only(client: TestClient, bad: str, words: str) -> None:
    inputs: list[Any] = [{"id": "x", "activations": {"imported": bad}}, {"activations": IMPORTED}]
    first, second = encode(client, inputs)
    assert first["id"] == "x"
    assert first["error"]["type"] == "urn:koine:error:activations"
    assert words in first["error"]["detail"]
    assert "codes" in second
