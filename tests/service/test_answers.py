"""Codes as JSON lists and packed bytes, at the borders of their number formats."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

from koine.codes import PAD
from koine.errors import ImageError
from service.answers import answer_body
from service.jobs import Row
from service.schemas import Encoding, Options


def row(indices: list[int], values: list[float], fvu: float = 0.5) -> Row:
    return Row(np.array(indices, np.int32), np.array(values, np.float32), fvu)


def answer(
    codes: Row,
    *,
    num_concepts: int = 100,
    top_k: int | None = None,
    encoding: Encoding = "json",
    names: bool = False,
) -> dict[str, Any]:
    """The answer's codes of the one stream."""
    options = Options(top_k=top_k, encoding=encoding, names=names)
    body = answer_body(
        "d@1", ["x"], [{"s": codes}], options, num_concepts=num_concepts, labels={2: "dog"}
    )
    return json.loads(body)["results"][0]["codes"]["s"]


def test_pads_are_left_out_of_lists() -> None:
    codes = answer(row([5, 2, PAD, PAD], [2.0, 1.0, 0, 0]))
    assert codes == {"indices": [5, 2], "values": [2.0, 1.0], "fvu": 0.5}


@pytest.mark.parametrize("encoding", ["json", "packed"])
def test_names_stand_beside_their_concepts(encoding: Encoding) -> None:
    codes = row([5, 2, PAD, PAD], [2.0, 1.0, 0, 0])
    assert answer(codes, encoding=encoding, names=True)["names"] == [None, "dog"]
    assert answer(codes, encoding=encoding, names=True, top_k=1)["names"] == [None]


def test_listed_values_are_the_float32s() -> None:
    values = np.random.default_rng(0).lognormal(0, 5, 500).astype(np.float32)
    got = answer(Row(np.arange(500, dtype=np.int32), values, 0.1), num_concepts=500)["values"]
    assert np.array_equal(np.array(got, np.float32), values)


@pytest.mark.parametrize(("num_concepts", "width"), [(65_536, "<u2"), (65_537, "<u4")])
def test_packed_indices_widen_above_65536_concepts(num_concepts: int, width: str) -> None:
    codes = row([num_concepts - 2, 0, PAD], [2.0, 1.0, 0])
    raw = base64.b64decode(answer(codes, num_concepts=num_concepts, encoding="packed")["packed"])
    size = np.dtype(width).itemsize
    assert len(raw) == 3 * (size + 2)
    indices = np.frombuffer(raw[: 3 * size], width)
    assert indices.tolist() == [num_concepts - 2, 0, np.iinfo(width).max]
    assert np.frombuffer(raw[3 * size :], "<f2").tolist() == [2.0, 1.0, 0.0]


def test_packed_values_stay_positive_and_finite() -> None:
    packed = answer(row([1, 2, 3], [1e6, 1.0, 1e-12]), encoding="packed")["packed"]
    values = np.frombuffer(base64.b64decode(packed)[6:], "<f2")
    assert values.tolist() == [65504.0, 1.0, 2.0**-24]


def test_top_k_pads_but_keeps_the_width_of_packed_codes() -> None:
    codes = row([1, 2, 3], [3.0, 2.0, 1.0])
    assert answer(codes, top_k=2)["indices"] == [1, 2]
    raw = base64.b64decode(answer(codes, top_k=2, encoding="packed")["packed"])
    assert np.frombuffer(raw[:6], "<u2").tolist() == [1, 2, 0xFFFF]


@pytest.mark.parametrize("fvu", [float("nan"), float("inf")])
def test_an_fvu_that_is_no_number_is_null(fvu: float) -> None:
    assert answer(row([1], [1.0], fvu))["fvu"] is None


def test_errors_stand_in_their_item() -> None:
    body = answer_body(
        "d@1", ["a", "ü"], [ImageError("cut"), {"s": row([1], [1.0])}], Options(),
        num_concepts=9, labels={},
    )  # fmt: skip
    first, second = json.loads(body)["results"]
    assert first == {
        "id": "a",
        "error": {
            "type": "urn:koine:error:image", "title": "The image cannot be read", "detail": "cut",
        },
    }  # fmt: skip
    assert second["id"] == "ü"
