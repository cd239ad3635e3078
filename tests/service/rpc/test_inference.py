"""inference.GRPCInferenceService: typed and raw contents, streams, refusals."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from koine.artifact import Artifact
from koine.proto.inference import open_inference_pb2 as pb
from koine.proto.koine.v1 import concepts_pb2
from service.tensors import raw_tensor
from tests.service.inputs import png
from tests.service.rpc.conftest import MODELS, Both, both, refused, several
from tests.tiny import K


def request_of(*inputs: tuple[str, str, list[int], Any], raw: bool = False, **more: Any) -> Any:
    """A request; the contents are typed, or raw."""
    request = pb.ModelInferRequest(model_name="tiny", **more)
    for name, datatype, shape, values in inputs:
        tensor = request.inputs.add(name=name, datatype=datatype, shape=shape)
        if raw and datatype == "BYTES":
            lengths = (len(value).to_bytes(4, "little") + value for value in values)
            request.raw_input_contents.append(b"".join(lengths))
        elif raw:
            request.raw_input_contents.append(np.asarray(values, "<f4").tobytes())
        elif datatype == "BYTES":
            tensor.contents.bytes_contents.extend(values)
        else:
            tensor.contents.fp32_contents.extend(np.asarray(values).ravel().tolist())
    return request


def parameter(value: Any) -> pb.InferParameter:
    """A parameter's message."""
    kind = {bool: "bool_param", int: "int64_param", str: "string_param"}[type(value)]
    return pb.InferParameter(**{kind: value})


async def infer(service: Both, request: Any) -> Any:
    """The answer of `ModelInfer`."""
    return await service.unary("ModelInfer", pb.ModelInferResponse, MODELS)(request, timeout=30)


def arrays(response: Any) -> dict[str, np.ndarray]:
    """The outputs, typed or raw."""
    found: dict[str, np.ndarray] = {}
    for n, output in enumerate(response.outputs):
        if response.raw_output_contents:
            raw = response.raw_output_contents[n]
            found[output.name] = np.asarray(
                raw_tensor(output.name, output.datatype, output.shape, raw).data
            )
        else:
            contents = output.contents.int_contents or output.contents.fp32_contents
            found[output.name] = np.array(contents).reshape(tuple(output.shape))
    return found


TEXT = ("text", "BYTES", [1], [b"a dog"])


def test_typed_and_raw_give_the_codes_of_encode(tiny_artifact: Artifact) -> None:
    async def run() -> None:
        async with both(tiny_artifact) as service:
            d_in = service.core.dictionaries.find().encoder.streams["imported"].d_in
            acts = np.random.default_rng(0).normal(size=(1, d_in)).astype(np.float32)
            for sent, item, stream in (
                (TEXT, concepts_pb2.Item(text="a dog"), "tiny_text"),
                (("image", "BYTES", [1, 1], [png(1)]), concepts_pb2.Item(image=png(1)), "tiny_a"),
                (
                    ("activations.imported", "FP32", [1, d_in], acts),
                    concepts_pb2.Item(
                        activations={"imported": concepts_pb2.Activations(raw=acts.tobytes())}
                    ),
                    "imported",
                ),
            ):
                codes = (await service.encode(item)).results[0].codes[stream]
                for raw in (False, True):
                    response = await infer(service, request_of(sent, raw=raw, id="7"))
                    assert bool(response.raw_output_contents) == raw
                    assert (response.model_name, response.model_version) == ("tiny", "0.1")
                    assert response.id == "7"
                    found = arrays(response)
                    count = len(codes.indices)
                    assert found[f"{stream}.indices"].shape == (1, K)
                    assert found[f"{stream}.indices"][0, :count].tolist() == list(codes.indices)
                    values = found[f"{stream}.values"][0, :count].astype(np.float32)
                    assert values.tolist() == list(codes.values)

    asyncio.run(run())


def test_requests_that_cannot_be_read(tiny_artifact: Artifact) -> None:
    async def run() -> None:
        async with both(tiny_artifact) as service:
            shared = request_of(TEXT)
            shared.inputs[0].parameters["shared_memory_region"].string_param = "x"
            twice = request_of(TEXT)
            twice.raw_input_contents.append(b"\x01\x00\x00\x00a")
            fewer = request_of(TEXT, ("image", "BYTES", [1], [b"x"]), raw=True)
            fewer.raw_input_contents.pop()
            wrong = request_of(TEXT)
            wrong.inputs[0].contents.int_contents.append(1)
            empty = request_of(TEXT)
            empty.parameters["mode"].SetInParent()
            for request, words in (
                (shared, "shared memory"),
                (twice, "contents beside `raw_input_contents`"),
                (fewer, "2 inputs and 1 `raw_input_contents`"),
                (wrong, "has int_contents, bytes_contents; send bytes_contents"),
                (empty, "`mode` has no value"),
                (request_of(("text", "BYTES", [2], [b"a"])), "1 elements of BYTES"),
                (request_of(("image", "BYTES", [2], [png(1), b"x"])), "item 1: "),
                (request_of(TEXT, parameters={"mode": parameter("all")}), "`mode`"),
                (b"\xff", "is no inference.ModelInferRequest"),
            ):
                await refused(infer(service, request), "INVALID_ARGUMENT", words)
            other = pb.ModelInferRequest(model_name="other")
            await refused(infer(service, other), "NOT_FOUND", "'other' is not served here")

    asyncio.run(run())


def test_parameters_and_partial_answers(tiny_artifact: Artifact) -> None:
    async def run() -> None:
        async with both(tiny_artifact) as service:
            request = request_of(("image", "BYTES", [2], [png(1), b"x"]))
            for name, value in (("partial", True), ("top_k", 2), ("streams", "tiny_a")):
                request.parameters[name].CopyFrom(parameter(value))
            found = arrays(await infer(service, request))
            assert set(found) == {"tiny_a.indices", "tiny_a.values", "tiny_a.fvu"}
            assert (found["tiny_a.indices"] >= 0).sum(1).tolist() == [2, 0]
            assert np.isnan(found["tiny_a.fvu"]).tolist() == [False, True]

    asyncio.run(run())


def test_a_stream_answers_in_order_and_goes_on(tiny_artifact: Artifact) -> None:
    async def run() -> None:
        async with both(tiny_artifact) as service:
            sent = [
                request_of(TEXT, id="0"),
                request_of(("text", "FP32", [1], [1.0]), id="1"),
                request_of(TEXT, id="2"),
            ]
            stream = service.stream("ModelStreamInfer", pb.ModelStreamInferResponse)
            answers = [answer async for answer in stream(several(*sent))]
            assert [answer.infer_response.id for answer in answers] == ["0", "1", "2"]
            assert ["is BYTES" in answer.error_message for answer in answers] == [
                False,
                True,
                False,
            ]
            assert answers[2].infer_response.outputs

    asyncio.run(run())


def test_readiness_while_loading_and_after(tiny_artifact: Artifact) -> None:
    async def run() -> None:
        async with both(None, wait=False) as service:
            ready = await service.unary("ServerReady", pb.ServerReadyResponse, MODELS)(b"")
            live = await service.unary("ServerLive", pb.ServerLiveResponse, MODELS)(b"")
            assert (ready.ready, live.live) == (False, True)
            await refused(infer(service, request_of(TEXT)), "UNAVAILABLE")
        async with both(tiny_artifact) as service:
            ready = await service.unary("ServerReady", pb.ServerReadyResponse, MODELS)(b"")
            assert ready.ready
            model = service.unary("ModelReady", pb.ModelReadyResponse, MODELS)
            for name, version, expected in (
                ("tiny", "", True), ("tiny", "0.1", True), ("tiny", "2", False), ("x", "", False),
            ):  # fmt: skip
                asked = pb.ModelReadyRequest(name=name, version=version)
                assert (await model(asked)).ready == expected

    asyncio.run(run())
