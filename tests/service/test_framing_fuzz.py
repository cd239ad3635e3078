"""Whatever the frame of a binary request, the answer is 200, 400 or 413: never a fault."""

from __future__ import annotations

import json
import struct
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from service.framing import LENGTH_HEADER
from tests.service.inputs import png
from tests.service.test_inference import INFER, outputs_of, refused

FUZZ = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
ELEMENTS = st.sampled_from([b"", b"a dog", b"\xff", png(1), png(1)[:50]]) | st.binary(max_size=9)
NAMES = st.sampled_from(["text", "image", "activations.imported", "activations.x", "x", ""])
SIZES = st.integers(-1, 40) | st.sampled_from([2**31 - 1, 2**31, 2**40, 2**63, 10**30])
SHAPES = st.lists(SIZES | st.integers(0, 3), max_size=3)
PARAMETERS = st.dictionaries(
    st.sampled_from(["partial", "binary_data_output", "top_k", "mode", "streams", "x"]),
    st.booleans() | st.integers(-1, 9) | st.text(max_size=5) | st.just("joint"),
    max_size=2,
)
OUTPUTS = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["tiny_text.indices", "imported.fvu", "tiny_a.values", "x"])},
        optional={"parameters": st.fixed_dictionaries({"binary_data": st.booleans()})},
    ),
    max_size=3,
)


def raw_strings(elements: list[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(e)) + e for e in elements)


@st.composite
def tensors(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    """An input and its raw form: as often right as not."""
    name = draw(NAMES)
    n = draw(st.integers(0, 3))
    if name.startswith("activations"):
        width = draw(st.sampled_from([10, 9, 0]))
        datatype, shape = "FP32", [n, width]
        numbers = draw(st.lists(st.floats(width=32), min_size=n * width, max_size=n * width))
        raw = struct.pack(f"<{n * width}f", *numbers)
    else:
        datatype, shape = "BYTES", [n]
        raw = raw_strings(draw(st.lists(ELEMENTS, min_size=n, max_size=n)))
    size = len(raw)
    if draw(st.integers(0, 3)) == 0:  # something is not as it says
        shape = draw(SHAPES)
        size = draw(SIZES | st.just(size))
        datatype = draw(st.sampled_from([datatype, "BYTES", "FP32", "INT32", "FP64", ""]))
    given: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
    return given | {"parameters": {"binary_data_size": size}}, raw


def check(answer: Any) -> None:
    """A whole answer, or a refusal in the promised shape."""
    if answer.status_code == 200:
        outputs_of(answer)
    else:
        assert answer.status_code in (400, 413), answer.text
        refused(answer, answer.status_code)


@FUZZ
@given(
    inputs=st.lists(tensors(), max_size=3),
    parameters=PARAMETERS,
    outputs=OUTPUTS,
    off=st.just(0) | st.integers(-40, 40),
    cut=st.just(0) | st.integers(0, 60),
    tail=st.just(b"") | st.binary(max_size=8),
)
@example(inputs=[], parameters={}, outputs=[], off=0, cut=0, tail=b"")
def test_any_frame(
    client: TestClient,
    inputs: list[tuple[dict[str, Any], bytes]],
    parameters: dict[str, Any],
    outputs: list[dict[str, Any]],
    off: int,
    cut: int,
    tail: bytes,
) -> None:
    asked = {"inputs": [one for one, _ in inputs], "parameters": parameters, "outputs": outputs}
    header = json.dumps(asked).encode()
    body = header + b"".join(raw for _, raw in inputs) + tail
    body = body[: len(body) - cut]
    headers = {LENGTH_HEADER: str(len(header) + off)}
    check(client.post(INFER, content=body, headers=headers))


@FUZZ
@given(
    body=st.binary(max_size=200),
    length=st.none() | st.integers(-5, 300).map(str) | st.text(st.characters(max_codepoint=255)),
    encoding=st.sampled_from(["identity", "gzip", "deflate"]),
)
def test_any_bytes(client: TestClient, body: bytes, length: str | None, encoding: str) -> None:
    headers = {b"content-encoding": encoding.encode()}
    if length is not None:
        headers[LENGTH_HEADER.encode()] = length.encode("latin-1")
    check(client.post(INFER, content=body, headers=headers))


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
KNOWN = st.sampled_from(["text", "image", "activations.imported"])


@FUZZ
@given(
    inputs=st.lists(
        st.fixed_dictionaries(
            {"name": KNOWN | ANY, "datatype": st.sampled_from(["BYTES", "FP32"]), "shape": SHAPES},
            optional={"data": st.lists(ANY, max_size=3) | ANY, "parameters": ANY},
        )
        | ANY,
        max_size=2,
    )
    | ANY,
    parameters=PARAMETERS | ANY,
)
def test_any_json(client: TestClient, inputs: Any, parameters: Any) -> None:
    body = json.dumps({"inputs": inputs, "parameters": parameters}).encode()
    check(client.post(INFER, content=body))
