"""What a user of `tritonclient.http` does, as a program: its gevent must stay out of the tests.

`python triton_session.py HOST:PORT`; prints a JSON of what came back.
"""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import numpy as np
import tritonclient.http as triton
from PIL import Image
from tritonclient.utils import InferenceServerException


def png(seed: int) -> bytes:
    """As `tests.service.inputs.png`."""
    rng = np.random.default_rng(seed)
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def given(name: str, values: Any, datatype: str, *, binary: bool = True) -> triton.InferInput:
    """An input tensor."""
    array = np.array(values, object if datatype == "BYTES" else np.float32)
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def arrays(result: triton.InferResult) -> dict[str, Any]:
    """Every output, NaN as null."""
    found: dict[str, Any] = {}
    for output in result.get_response()["outputs"]:
        array = result.as_numpy(output["name"])
        assert array is not None
        values = array.astype(object)
        values[np.isnan(array)] = None
        found[output["name"]] = values.tolist()
    return found


def refusal(call: Any) -> dict[str, Any]:
    """How the client tells of an error."""
    try:
        call()
    except InferenceServerException as error:
        return {"status": error.status(), "message": error.message()}
    return {"status": "200", "message": ""}


def session(client: triton.InferenceServerClient) -> dict[str, Any]:
    """The whole session."""
    texts = given("text", [b"a dog", b"red square on grass"], "BYTES")
    images = given("image", [png(1), png(2)], "BYTES")
    acts = np.linspace(-1, 1, 20).reshape(2, 10)
    imported = given("activations.imported", acts, "FP32")
    json_acts = given("activations.imported", acts, "FP32", binary=False)
    json_texts = given("text", [b"a dog", b"red square on grass"], "BYTES", binary=False)
    one_empty = given("text", [b"", b"a"], "BYTES")
    outputs = [
        triton.InferRequestedOutput("tiny_text.indices", binary_data=False),
        triton.InferRequestedOutput("tiny_text.values", binary_data=True),
        triton.InferRequestedOutput("tiny_text.fvu", binary_data=False),
    ]
    pending = [client.async_infer("tiny", [texts], request_id=str(n)) for n in range(4)]
    # each holds a connection until it is read
    asynchronous = [each.get_result() for each in pending]
    return {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready("tiny"),
        "version_ready": client.is_model_ready("tiny", "0.1"),
        "unknown_ready": client.is_model_ready("other"),
        "server": client.get_server_metadata(),
        "metadata": client.get_model_metadata("tiny"),
        "config": client.get_model_config("tiny", "0.1"),
        "texts": arrays(client.infer("tiny", [texts])),
        "json_texts": arrays(client.infer("tiny", [json_texts], outputs=outputs)),
        "all": arrays(client.infer("tiny", [images, texts, imported], model_version="0.1")),
        "json_acts": arrays(client.infer("tiny", [json_acts])),
        "options": arrays(
            client.infer("tiny", [images], parameters={"streams": "tiny_b", "top_k": 2})
        ),
        "partial": arrays(
            client.infer("tiny", [one_empty], parameters={"partial": True})
        ),
        "gzip": arrays(
            client.infer(
                "tiny", [texts], request_compression_algorithm="gzip",
                response_compression_algorithm="gzip",
            )
        ),
        "deflate": arrays(
            client.infer(
                "tiny", [texts], request_compression_algorithm="deflate",
                response_compression_algorithm="deflate",
            )
        ),
        "async": [arrays(result) for result in asynchronous],
        "ids": [result.get_response()["id"] for result in asynchronous],
        "bad_item": refusal(lambda: client.infer("tiny", [given("text", [b""], "BYTES")])),
        "unknown_model": refusal(lambda: client.infer("other", [texts])),
        "unknown_output": refusal(
            lambda: client.infer("tiny", [texts], outputs=[triton.InferRequestedOutput("x")])
        ),
    }  # fmt: skip


if __name__ == "__main__":
    with triton.InferenceServerClient(sys.argv[1], concurrency=4) as client:
        json.dump(session(client), sys.stdout)
