"""Whatever is sent, the answer is 200, 400, 413 or 415, in the promised shape: never a fault."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from tests.service.inputs import b64, png

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
ANY_JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=10,
)
IMAGES = st.sampled_from([b64(png(1)), b64(png(1)[:99]), "", "!", "data:,"])
NUMBERS = st.lists(st.floats(), min_size=10, max_size=10) | st.lists(st.integers(), max_size=12)
ITEMS = ANY_JSON | st.fixed_dictionaries(
    {},
    optional={
        "id": SCALARS,
        "image": IMAGES | ANY_JSON,
        "text": st.text(max_size=50) | ANY_JSON,
        "activations": st.dictionaries(st.sampled_from(["imported", "tiny_a", "x"]), NUMBERS)
        | ANY_JSON,
    },
)
REQUESTS = ANY_JSON | st.fixed_dictionaries(
    {"inputs": st.lists(ITEMS, max_size=4) | ANY_JSON},
    optional={
        "streams": st.lists(st.sampled_from(["tiny_a", "tiny_text", "imported", "x"])) | ANY_JSON,
        "mode": st.sampled_from(["joint", "independent"]) | ANY_JSON,
        "top_k": st.integers(1, 9) | ANY_JSON,
        "encoding": st.sampled_from(["json", "packed"]) | ANY_JSON,
    },
)
FUZZ = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def check(answer: Any, inputs: Any = None) -> None:
    """The answer has the promised shape."""
    assert answer.status_code in (200, 400, 413, 415), answer.text
    body = answer.json()
    if answer.status_code != 200:
        assert body.keys() == {"type", "title", "status", "detail", "instance"}
        return
    for result in body["results"]:
        assert result.keys() in ({"id", "codes"}, {"id", "error"})
    if inputs is not None:
        assert len(body["results"]) == len(inputs)


@FUZZ
@given(request=REQUESTS)
def test_any_json(client: TestClient, request: Any) -> None:
    body = json.dumps(request).encode()
    answer = client.post("/v1/encode", content=body, headers={"content-type": "application/json"})
    check(answer, request["inputs"] if answer.status_code == 200 else None)


@FUZZ
@given(body=st.binary(max_size=300), kind=st.sampled_from(["application/json", "image/png"]))
def test_any_bytes(client: TestClient, body: bytes, kind: str) -> None:
    check(client.post("/v1/encode", content=body, headers={"content-type": kind}))


@FUZZ
@given(
    body=st.lists(
        st.sampled_from([
            b"--x", b"--", b"\r\n", b"\r\n\r\n", b'Content-Disposition: form-data; name="text"',
            b'Content-Disposition: form-data; name="image[a]"; filename="a"', b"a dog", png(1),
        ]),
        max_size=14,
    ).map(b"".join)
)  # fmt: skip
def test_any_form(client: TestClient, body: bytes) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    check(client.post("/v1/encode", content=body, headers=headers))
