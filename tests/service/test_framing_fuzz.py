"""Whatever the frame of a binary request, the answer is 200, 400 or 413: never a fault."""

from __future__ import annotations

import json
import struct
from typing import Any

from hypothesis import HealthCheck, given, settings
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
ELEMENTS = st.sampled_from([b"a dog", b"cat", b"\xff", png(1), png(1)[:50]]) | st.binary(max_size=9)
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
def frames(draw: st.DrawFn) -> tuple[bytes, str]:
    """A body and the length of its JSON: right but for what is drawn to be wrong."""
    n = draw(st.integers(1, 3))
    inputs: list[dict[str, Any]] = []
    raws: list[bytes] = []
    for name in draw(st.permutations(["text", "image", "activations.imported"]))[
        : draw(st.integers(1, 3))
    ]:
        if name == "activations.imported":
            datatype, shape = "FP32", [n, 10]
            numbers = draw(st.lists(st.floats(width=32), min_size=n * 10, max_size=n * 10))
            raws.append(struct.pack(f"<{n * 10}f", *numbers))
        else:
            datatype, shape = "BYTES", [n]
            raws.append(raw_strings(draw(st.lists(ELEMENTS, min_size=n, max_size=n))))
        inputs.append({"name": name, "datatype": datatype, "shape": shape})
        inputs[-1]["parameters"] = {"binary_data_size": len(raws[-1])}
    wrong = draw(st.sampled_from(["nothing"] * 4 + ["tensor", "length", "cut", "tail", "options"]))
    asked: dict[str, Any] = {"inputs": inputs, "parameters": {"partial": draw(st.booleans())}}
    if wrong == "tensor":
        tensor = draw(st.sampled_from(inputs))
        tensor["shape"] = draw(SHAPES | st.just(tensor["shape"]))
        tensor["datatype"] = draw(st.sampled_from(["BYTES", "FP32", "INT32", "FP64", ""]))
        tensor["name"] = draw(st.sampled_from([tensor["name"], "activations.x", "x", "", "text"]))
        tensor["parameters"] = {"binary_data_size": draw(SIZES)}
    if wrong == "options":
        asked |= {"parameters": draw(PARAMETERS), "outputs": draw(OUTPUTS)}
    header = json.dumps(asked).encode()
    body = header + b"".join(raws)
    if wrong == "cut":
        body = body[: -draw(st.integers(1, len(body)))]
    if wrong == "tail":
        body += draw(st.binary(min_size=1, max_size=8))
    return body, str(len(header) + (draw(st.integers(-40, 40)) if wrong == "length" else 0))


def check(answer: Any) -> int:
    """A whole answer, or a refusal in the promised shape."""
    if answer.status_code == 200:
        outputs_of(answer)
    else:
        assert answer.status_code in (400, 413), answer.text
        refused(answer, answer.status_code)
    return answer.status_code


def test_any_frame(client: TestClient) -> None:
    seen: set[int] = set()

    @FUZZ
    @given(frame=frames())
    def send(frame: tuple[bytes, str]) -> None:
        body, length = frame
        headers = {LENGTH_HEADER: length}
        seen.add(check(client.post(INFER, content=body, headers=headers)))

    send()
    assert seen == {200, 400}  # it has not only been refused


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
