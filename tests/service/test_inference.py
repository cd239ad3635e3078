"""`/v2`: the Open Inference Protocol in JSON and with binary tensors."""

from __future__ import annotations

import gzip
import json
import struct
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from koine.codes import PAD
from service.framing import LENGTH_HEADER
from tests.service.inputs import b64, image_item, png
from tests.service.test_encode import IMPORTED, encode
from tests.tiny import K

INFER = "/v2/models/tiny/infer"
TEXTS = ["a dog", "red square on grass"]
TEXT = {"name": "text", "datatype": "BYTES", "shape": [2], "data": TEXTS}
ACTS = np.array([IMPORTED["imported"], range(10)], np.float32)


def tensor(name: str, datatype: str, shape: list[int], **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, **more}


def strings(*elements: bytes) -> bytes:
    """The raw form of a BYTES tensor."""
    return b"".join(struct.pack("<I", len(e)) + e for e in elements)


def send(client: TestClient, asked: dict[str, Any], *raw: bytes, url: str = INFER) -> Any:
    """The answer to a JSON request, or to one with raw tensors behind it."""
    header = json.dumps(asked).encode()
    headers = {LENGTH_HEADER: str(len(header))} if raw else {}
    return client.post(url, content=b"".join([header, *raw]), headers=headers)


def outputs_of(answer: Any) -> dict[str, np.ndarray]:
    """The tensors of an answer of 200, in whichever form."""
    assert answer.status_code == 200, answer.text
    length = answer.headers.get(LENGTH_HEADER)
    body, raw = answer.content, b""
    if length is not None:
        assert answer.headers["content-type"] == "application/octet-stream"
        body, raw = answer.content[: int(length)], answer.content[int(length) :]
    outputs: dict[str, np.ndarray] = {}
    for output in json.loads(body)["outputs"]:
        dtype = {"INT32": "<i4", "FP32": "<f4"}[output["datatype"]]
        if "data" in output:
            values = np.array(output["data"], dtype)
        else:
            size = output["parameters"]["binary_data_size"]
            values, raw = np.frombuffer(raw[:size], dtype), raw[size:]
        outputs[output["name"]] = values.reshape(output["shape"])
    assert raw == b""
    return outputs


def refused(answer: Any, status: int = 400) -> str:
    """The detail of a problem that clients of the protocol can read too."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["error"] == body["detail"]
    return body["detail"]


def same(outputs: dict[str, np.ndarray], codes: list[dict[str, Any]], stream: str) -> None:
    """The stream's tensors hold the codes of `/v1/encode`."""
    for n, result in enumerate(codes):
        row = outputs[f"{stream}.indices"][n]
        want = result["codes"][stream]
        active = row != PAD
        assert row[active].tolist() == want["indices"]
        values = outputs[f"{stream}.values"][n]
        np.testing.assert_allclose(values[active], want["values"], rtol=1e-5, atol=1e-6)
        assert not values[~active].any()
        np.testing.assert_allclose(outputs[f"{stream}.fvu"][n], want["fvu"], rtol=1e-5, atol=1e-6)


def test_json_in_and_out(client: TestClient) -> None:
    answer = send(client, {"id": "q7", "inputs": [TEXT]})
    body = answer.json()
    assert body.keys() == {"model_name", "model_version", "id", "outputs"}
    assert (body["model_name"], body["model_version"], body["id"]) == ("tiny", "0.1", "q7")
    outputs = outputs_of(answer)
    assert list(outputs) == ["tiny_text.indices", "tiny_text.values", "tiny_text.fvu"]
    assert outputs["tiny_text.indices"].shape == (2, K)
    same(outputs, encode(client, [{"text": text} for text in TEXTS]), "tiny_text")
    assert "read;dur=" in answer.headers["server-timing"]


def test_binary_in_and_out(client: TestClient) -> None:
    images, texts = strings(png(1), png(2)), strings(*(text.encode() for text in TEXTS))
    asked = {
        "inputs": [
            tensor("image", "BYTES", [2, 1], parameters={"binary_data_size": len(images)}),
            tensor("activations.imported", "FP32", [2, 10],
                   parameters={"binary_data_size": ACTS.nbytes}),
            tensor("text", "BYTES", [2], parameters={"binary_data_size": len(texts)}),
        ],
        "parameters": {"binary_data_output": True},
    }  # fmt: skip
    answer = send(client, asked, images, ACTS.tobytes(), texts)
    outputs = outputs_of(answer)
    items = [
        image_item(n + 1, text=text, activations={"imported": ACTS[n].tolist()})
        for n, text in enumerate(TEXTS)
    ]
    codes = encode(client, items)
    assert len(outputs) == 12
    for stream in ("tiny_a", "tiny_b", "tiny_text", "imported"):
        same(outputs, codes, stream)


def test_each_output_chooses_its_form(client: TestClient) -> None:
    asked: dict[str, Any] = {
        "inputs": [TEXT],
        "outputs": [
            {"name": "tiny_text.values", "parameters": {"binary_data": True}},
            {"name": "tiny_text.indices"},
        ],
    }
    answer = send(client, asked)
    assert list(outputs_of(answer)) == ["tiny_text.values", "tiny_text.indices"]
    assert b'"data":[' in answer.content[: int(answer.headers[LENGTH_HEADER])]
    asked["parameters"] = {"binary_data_output": True}
    asked["outputs"][0]["parameters"]["binary_data"] = False
    assert list(outputs_of(send(client, asked))) == ["tiny_text.values", "tiny_text.indices"]
    asked["outputs"] = []
    assert len(outputs_of(send(client, asked))) == 3


def test_images_as_json_are_in_base64_and_an_empty_one_is_none(client: TestClient) -> None:
    image = tensor("image", "BYTES", [2], data=[b64(png(1)), ""])
    outputs = outputs_of(send(client, {"inputs": [image, TEXT]}))
    codes = encode(client, [image_item(1, text=TEXTS[0])])
    same(outputs, codes, "tiny_a")
    assert (outputs["tiny_a.indices"][1] == PAD).all()
    assert np.isnan(outputs["tiny_a.fvu"][1])  # null, since JSON has no NaN
    assert b"NaN" not in send(client, {"inputs": [image, TEXT]}).content


def test_activations_may_be_nested_or_flat(client: TestClient) -> None:
    for data in (ACTS.tolist(), ACTS.reshape(-1).tolist()):
        given = tensor("activations.imported", "FP32", [2, 10], data=data)
        outputs = outputs_of(send(client, {"inputs": [given]}))
        items = [{"activations": {"imported": row.tolist()}} for row in ACTS]
        same(outputs, encode(client, items), "imported")


def test_parameters_are_options(client: TestClient) -> None:
    parameters = {"streams": "tiny_b, tiny_text", "mode": "joint", "top_k": 3}
    image = tensor("image", "BYTES", [2], data=[b64(png(1)), b64(png(2))])
    outputs = outputs_of(send(client, {"inputs": [image, TEXT], "parameters": parameters}))
    items = [image_item(n + 1, text=text) for n, text in enumerate(TEXTS)]
    codes = encode(client, items, streams=["tiny_b", "tiny_text"], mode="joint", top_k=3)
    assert len(outputs) == 6
    same(outputs, codes, "tiny_b")


def test_compressed_and_with_a_version(client: TestClient) -> None:
    raw = strings(b"a dog")
    header = {"inputs": [tensor("text", "BYTES", [1], parameters={"binary_data_size": len(raw)})]}
    body = json.dumps(header).encode()
    headers = {LENGTH_HEADER: str(len(body)), "content-encoding": "gzip"}
    url = "/v2/models/tiny/versions/0.1/infer"
    answer = client.post(url, content=gzip.compress(body + raw), headers=headers)
    same(outputs_of(answer), encode(client, [{"text": "a dog"}]), "tiny_text")


def test_partial_spares_the_other_items(client: TestClient) -> None:
    text = tensor("text", "BYTES", [3], data=["a dog", "", "cat"])
    assert "item 1: " in refused(send(client, {"inputs": [text]}))
    asked = {"inputs": [text], "parameters": {"partial": True}}
    outputs = outputs_of(send(client, asked))
    assert (outputs["tiny_text.indices"][1] == PAD).all()
    assert (outputs["tiny_text.indices"][[0, 2]] != PAD).any()


@pytest.mark.parametrize("url", ["/v2/models/x", "/v2/models/tiny/versions/9"])
def test_unknown_models_are_404(client: TestClient, url: str) -> None:
    for path in (url, f"{url}/ready", f"{url}/config"):
        assert "tiny@0.1" in refused(client.get(path), 404)
    assert "tiny@0.1" in refused(send(client, {"inputs": [TEXT]}, url=f"{url}/infer"), 404)


def test_other_paths_and_methods_are_problems_with_an_error(client: TestClient) -> None:
    assert "/v2/models" in refused(client.get("/v2/models"), 404)
    assert "GET" in refused(client.get(INFER), 405)


def test_what_the_server_and_a_model_are(client: TestClient) -> None:
    server = client.get("/v2").json()
    assert server["name"] == "koine"
    assert server["extensions"] == ["binary_tensor_data", "model_configuration"]
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    for url in ("/v2/models/tiny", "/v2/models/tiny/versions/0.1"):
        assert client.get(f"{url}/ready").json() == {"name": "tiny", "ready": True}
        metadata = client.get(url).json()
        assert metadata["versions"] == ["0.1"]
        inputs = {each["name"]: each for each in metadata["inputs"]}
        assert inputs["image"] == {"name": "image", "datatype": "BYTES", "shape": [-1]}
        assert inputs["activations.tiny_a"]["shape"] == [-1, 24]
        outputs = {each["name"]: each for each in metadata["outputs"]}
        assert outputs["tiny_a.indices"]["shape"] == [-1, K]
        config = client.get(f"{url}/config").json()
        assert config["max_batch_size"] == 256
        assert {"name": "text", "data_type": "TYPE_STRING"}.items() <= config["input"][1].items()
