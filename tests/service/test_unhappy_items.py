"""Bad items: each gets an error that says what is wrong, what was got and what to do."""

from __future__ import annotations

import io
import json
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from tests.service.inputs import b64, file_bytes, pixels, png
from tests.service.test_encode import IMPORTED, encode, same

NAN = float("nan")


def huge_png(side: int) -> bytes:
    """A PNG whose header promises `side` x `side` pixels and whose body is a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


BAD: dict[str, tuple[Any, str, str]] = {
    "text file named jpg": ({"image": b64(b"just words")}, "image", "image"),
    "cut PNG": ({"image": b64(png(1)[:300])}, "image", ""),
    "decompression bomb": ({"image": b64(huge_png(30_000))}, "image", "64,000,000"),
    "no base64": ({"image": "!!!"}, "image", "base64"),
    "empty image": ({"image": ""}, "image", "empty"),
    "a URL": ({"image": "https://example.org/a.png"}, "image", "fetches nothing"),
    "a data URL": ({"image": "data:image/png;base64,AAAA"}, "image", "send the bytes"),
    "empty text": ({"text": ""}, "text", "empty"),
    "blank text": ({"text": " \n\t"}, "text", "no word"),
    "overlong text": ({"text": "a" * 100_001}, "text", "100000"),
    "NaN": ({"activations": {"imported": [1.0] * 9 + [NAN]}}, "activations", "NaN"),
    "infinity": ({"activations": {"imported": [-float("inf")] + [1.0] * 9}}, "activations", "inf"),
    "beyond float32": ({"activations": {"imported": [1e39] * 10}}, "activations", "float32"),
    "too large to square": ({"activations": {"imported": [3e38] * 10}}, "activations", "large"),
    "wrong dims": ({"activations": {"imported": [1.0] * 9}}, "activations", "10 activations"),
    "no dims": ({"activations": {"imported": []}}, "activations", "got 0"),
    "unknown stream": ({"activations": {"clip": [1.0]}}, "unknown-stream", "tiny_a"),
    "strings for numbers": ({"activations": {"imported": ["1"] * 10}}, "request", "number"),
    "nested activations": ({"activations": {"imported": [[1.0]]}}, "request", "number"),
    "number for text": ({"text": 5}, "request", "got 5"),
    "unknown key": ({"txt": "a dog"}, "request", "`txt`"),
    "nothing": ({}, "request", "`image`, `text` or `activations`"),
    "no activations": ({"activations": {}}, "request", "nothing to encode"),
    "no object": (7, "request", "object"),
    "null": (None, "request", "object"),
    "long id": ({"id": "x" * 300, "text": "a"}, "request", "256"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_item_says_why_and_the_next_is_answered(client: TestClient, case: str) -> None:
    item, kind, words = BAD[case]
    answer = client.post("/v1/encode", content=json.dumps({"inputs": [item, {"text": "a dog"}]}))
    assert answer.status_code == 200, answer.text
    bad, good = answer.json()["results"]
    assert bad["error"]["type"] == f"urn:koine:error:{kind}", bad
    assert words.lower() in bad["error"]["detail"].lower(), bad
    assert bad.keys() == {"id", "error"}
    assert bad["id"] == "0"
    assert good["codes"]["tiny_text"]["indices"]


def test_streams_that_do_not_fit_the_item_are_its_error(client: TestClient) -> None:
    results = encode(client, [{"text": "a dog"}, {"image": b64(png(1))}], streams=["tiny_a"])
    assert "tiny_a` (image)" in results[0]["error"]["detail"]
    assert list(results[1]["codes"]) == ["tiny_a"]
    (result,) = encode(client, [{"text": "a dog"}], streams=["imported"])
    assert "`imported` (activations)" in result["error"]["detail"]


def _jpeg_rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return file_bytes(pixels(1), "JPEG", exif=exif)


def _animated() -> bytes:
    file = io.BytesIO()
    frames = [pixels(n) for n in range(3)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


ODD = {
    "1x1": lambda: file_bytes(pixels(1, 1, 1)),
    "1x500": lambda: file_bytes(pixels(1, 1, 500)),
    "CMYK": lambda: file_bytes(pixels(1).convert("CMYK"), "JPEG"),
    "16-bit": lambda: file_bytes(
        Image.fromarray(np.random.default_rng(0).integers(0, 65536, (30, 30), dtype=np.uint16))
    ),
    "palette": lambda: file_bytes(pixels(1).convert("P")),
    "alpha": lambda: file_bytes(pixels(1).convert("RGBA")),
    "animated": _animated,
    "EXIF-rotated": _jpeg_rotated,
}


@pytest.mark.parametrize("case", ODD)
def test_odd_images_are_encoded(client: TestClient, case: str) -> None:
    (result,) = encode(client, [{"image": b64(ODD[case]())}])
    assert result["codes"].keys() == {"tiny_a", "tiny_b"}, result


def test_base64_with_line_breaks_is_read(client: TestClient) -> None:
    lines = "\n".join(b64(png(1))[i : i + 76] for i in range(0, len(b64(png(1))), 76))
    broken, whole = encode(client, [{"image": lines}, {"image": b64(png(1))}])
    same(broken["codes"], whole["codes"])


def test_ten_thousand_words_are_cut(client: TestClient) -> None:
    long, cut = encode(client, [{"text": "a dog " * 5000}, {"text": "a dog " * 6}])
    same(long["codes"], cut["codes"])


def test_wanted_activations_of_one_item_do_not_need_others(client: TestClient) -> None:
    results = encode(client, [{"activations": IMPORTED}] * 3 + [{"activations": {"imported": [0]}}])
    assert ["codes" in result for result in results] == [True, True, True, False]
