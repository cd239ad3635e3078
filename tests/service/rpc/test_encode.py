"""`Encode`: the same codes as HTTP, whichever form they are sent and asked for in."""

from __future__ import annotations

import asyncio
import base64
import struct

import numpy as np
import pytest

from koine.artifact import Artifact
from koine.proto.inference import open_inference_pb2 as oip_pb
from koine.proto.koine.v1 import concepts_pb2 as pb
from service.core import Core
from service.rpc import concepts, inference
from service.rpc.edge import Edge
from service.settings import Settings
from tests.service.inputs import b64, png
from tests.service.rpc.conftest import both, codes_of, floats, json_codes_of, width


@pytest.mark.parametrize("mode", ["independent", "joint"])
def test_codes_are_those_of_http(tiny_artifact: Artifact, mode: str) -> None:
    async def run() -> None:
        async with both(tiny_artifact) as service:
            acts = np.random.default_rng(3).normal(size=width(service, "imported"))
            acts = acts.astype(np.float32)
            # one at a time: what shares a batch moves floats
            for sent, json in (
                (pb.Item(image=png(1)), {"image": b64(png(1))}),
                (pb.Item(text="a dog"), {"text": "a dog"}),
                (pb.Item(image=png(2), text="a cat"), {"image": b64(png(2)), "text": "a cat"}),
                (
                    pb.Item(activations={"imported": floats(acts)}),
                    {"activations": {"imported": acts.tolist()}},
                ),
                (
                    pb.Item(activations={"imported": floats(acts, raw=True)}),
                    {"activations": {"imported": acts.tolist()}},
                ),
            ):
                answer = await service.encode(sent, mode=pb.Mode.Value(mode.upper()))
                body = {"inputs": [json], "mode": mode}
                (same,) = (await service.http.post("/v1/encode", json=body)).json()["results"]
                assert codes_of(answer.results[0]) == json_codes_of(same)
                assert answer.dictionary == "tiny@0.1"

    asyncio.run(run())


def test_packed_and_names_are_those_of_http(tiny_artifact: Artifact) -> None:
    async def run() -> None:
        async with both(tiny_artifact) as service:
            options = {"names": True, "top_k": 3}
            for encoding in ("json", "packed"):
                body = {"inputs": [{"text": "a dog"}], "encoding": encoding, **options}
                (same,) = (await service.http.post("/v1/encode", json=body)).json()["results"]
                number = pb.PACKED if encoding == "packed" else pb.LISTS
                answer = await service.encode(pb.Item(text="a dog"), encoding=number, **options)
                (codes,) = answer.results[0].codes.values()
                (json,) = same["codes"].values()
                names = [n.label if n.HasField("label") else None for n in codes.names]
                assert names == json["names"]
                assert len(names) == 3
                if encoding == "packed":
                    assert codes.packed == base64.b64decode(json["packed"])
                    assert not codes.indices
                else:
                    assert list(codes.indices) == json["indices"]

    asyncio.run(run())


def test_ids_are_echoed_and_items_numbered(tiny_artifact: Artifact) -> None:
    async def run() -> None:
        async with both(tiny_artifact) as service:
            items = [pb.Item(text="a", id="one"), pb.Item(text="a"), pb.Item(text="a", id="")]
            answer = await service.encode(*items, request_id="r")
            assert [result.id for result in answer.results] == ["one", "1", ""]
            assert answer.request_id == "r"

    asyncio.run(run())


def test_timings_stand_in_the_message_and_the_trailers(tiny_artifact: Artifact) -> None:
    async def run() -> None:
        async with both(tiny_artifact) as service:
            request = pb.EncodeRequest(inputs=[pb.Item(text="a dog")])
            call = service.unary("Encode", pb.EncodeResponse)(request)
            timings = (await call).timings
            trailers = dict(await call.trailing_metadata())
            assert 0 < timings.forward < timings.total
            assert trailers["koine-timings"].endswith(f"total;dur={timings.total:.2f}")

    asyncio.run(run())


def test_every_method_of_the_definition_is_there() -> None:
    core = Core(Settings())
    for service, definition in ((concepts, pb), (inference, oip_pb)):
        (named,) = definition.DESCRIPTOR.services_by_name.values()
        assert named.full_name == service.SERVICE
        assert set(service.methods(core, Edge(core))) == set(named.methods_by_name)


def test_numbers_on_the_wire_may_come_unpacked(tiny_artifact: Artifact) -> None:
    async def run() -> None:
        async with both(tiny_artifact) as service:
            acts = np.linspace(-1, 1, width(service, "imported")).astype(np.float32)
            # field 1 number by number, and a field that this version does not know
            wire = b"".join(b"\x0d" + struct.pack("<f", value) for value in acts) + b"\x7a\x01x"
            loose = pb.Activations.FromString(wire)
            answer = await service.encode(
                pb.Item(activations={"imported": loose}),
                pb.Item(activations={"imported": floats(acts)}),
            )
            assert codes_of(answer.results[0]) == codes_of(answer.results[1])

    asyncio.run(run())
