"""Triton's own client, unmodified; in a process of its own, as its stubs name the same messages."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from typing import Any

import numpy as np

from koine.artifact import Artifact
from koine.proto.koine.v1 import concepts_pb2 as pb
from tests.service.inputs import png
from tests.service.rpc.conftest import both

CLIENT = """
import base64, json, queue, sys
import numpy as np
import tritonclient.grpc as triton

client = triton.InferenceServerClient(sys.argv[1])
images = [base64.b64decode(image) for image in json.loads(sys.argv[2])]
told = {
    "live": client.is_server_live(),
    "ready": client.is_server_ready(),
    "model": client.is_model_ready("tiny", "0.1"),
    "nobody": client.is_model_ready("nobody"),
    "server": client.get_server_metadata(as_json=True),
    "metadata": client.get_model_metadata("tiny", as_json=True),
    "config": client.get_model_config("tiny", as_json=True),
}

def given(name, array, datatype):
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    return tensor

def lists(result, stream):
    kinds = ("indices", "values", "fvu")
    return {kind: result.as_numpy(f"{stream}.{kind}").tolist() for kind in kinds}

texts = given("text", np.array([b"a dog", b"a cat"], dtype=object), "BYTES")
pictures = given("image", np.array(images, dtype=object), "BYTES")
shapes = {tensor["name"]: tensor["shape"] for tensor in told["metadata"]["inputs"]}
d_in = shapes["activations.imported"][1]
acts = given("activations.imported", np.ones((3, int(d_in)), np.float32), "FP32")
told["texts"] = lists(client.infer("tiny", [texts]), "tiny_text")
told["images"] = lists(client.infer("tiny", [pictures], model_version="0.1"), "tiny_a")
outputs = [triton.InferRequestedOutput("imported.indices")]
result = client.infer("tiny", [acts], outputs=outputs, parameters={"top_k": 2}, request_id="7")
told["top"] = (result.as_numpy("imported.indices") >= 0).sum(1).tolist()
told["id"] = result.get_response().id
told["absent"] = result.as_numpy("imported.values") is None

answers = queue.Queue()
for _ in range(8):
    client.async_infer("tiny", [texts], lambda result, error: answers.put((result, error)))
told["async"] = [lists(answers.get(timeout=30)[0], "tiny_text") for _ in range(8)]

client.start_stream(lambda result, error: answers.put((result, error)))
for n in range(4):
    client.async_stream_infer("tiny", [texts], request_id=str(n))
told["stream"] = [answers.get(timeout=30)[0].get_response().id for _ in range(4)]
client.stop_stream()

try:
    client.infer("tiny", [given("image", np.array([b"x"], dtype=object), "BYTES")])
except triton.InferenceServerException as error:
    told["error"] = [error.status(), error.message()]
print(json.dumps(told))
"""


def test_it_reads_what_we_serve(tiny_artifact: Artifact) -> None:
    async def run() -> None:
        async with both(tiny_artifact) as service:
            images = json.dumps([base64.b64encode(png(n)).decode() for n in (1, 2)])
            ended = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-c", CLIENT, f"127.0.0.1:{service.port}", images],
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert ended.returncode == 0, ended.stderr
            told: dict[str, Any] = json.loads(ended.stdout)
            same = await service.encode(pb.Item(text="a dog"), pb.Item(text="a cat"))
            pictures = await service.encode(pb.Item(image=png(1)), pb.Item(image=png(2)))
        assert [told[name] for name in ("live", "ready", "model", "nobody")] == [True] * 3 + [False]
        assert told["server"]["name"] == "koine"
        assert told["metadata"]["versions"] == ["0.1"]
        config = told["config"]["config"]
        assert config["max_batch_size"] == 256
        assert {"name": "text", "data_type": "TYPE_STRING", "optional": True} in config["input"]
        _agrees(told["texts"], [result.codes["tiny_text"] for result in same.results])
        _agrees(told["images"], [result.codes["tiny_a"] for result in pictures.results])
        assert told["top"] == [2, 2, 2]
        assert (told["id"], told["absent"]) == ("7", True)
        for answer in told["async"]:
            _agrees(answer, [result.codes["tiny_text"] for result in same.results])
        assert told["stream"] == ["0", "1", "2", "3"]
        status, message = told["error"]
        assert status == "StatusCode.INVALID_ARGUMENT"
        assert message.startswith("item 0: ")

    asyncio.run(run())


def _agrees(lists: dict[str, list[Any]], codes: list[pb.Codes]) -> None:
    """The same support; values to float noise, as what shared their batches differed."""
    for n, one in enumerate(codes):
        assert sorted(lists["indices"][n]) == sorted(one.indices)
        np.testing.assert_allclose(sorted(lists["values"][n]), sorted(one.values), 1e-5, 1e-6)
        np.testing.assert_allclose(lists["fvu"][n], one.fvu, 1e-5, 1e-6)
