"""`Compare`, `Translate` and `ListConcepts`: what HTTP answers, as messages."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from google.protobuf.json_format import MessageToDict

from koine.artifact import Artifact
from koine.proto.koine.v1 import concepts_pb2 as pb
from tests.service.inputs import b64, png
from tests.service.rpc.conftest import both, refused


def fields(message: Any) -> Any:
    """A message as JSON has it; floats as they are on the wire."""
    return MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def rounded(value: Any) -> Any:
    """Numbers as float32, empty and absent alike."""
    if isinstance(value, dict):
        found = {key: rounded(inner) for key, inner in value.items()}
        return {key: inner for key, inner in found.items() if inner not in (None, [], {}, "")}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return float(np.float32(value)) if isinstance(value, int | float) else value


def test_comparisons_are_those_of_http(tiny_artifact: Artifact) -> None:
    async def run() -> None:
        async with both(tiny_artifact) as service:
            request = pb.CompareRequest(inputs=[pb.Item(image=png(1)), pb.Item(text="a dog")])
            answer = await service.unary("Compare", pb.CompareResponse)(request)
            body = {"inputs": [{"image": b64(png(1))}, {"text": "a dog"}]}
            same = (await service.http.post("/v1/compare", json=body)).json()
            assert rounded(fields(answer)) == rounded(same)
            assert answer.results[0].pairs["tiny_a|tiny_b"].HasField("jaccard")
            assert "takes two or more" in answer.results[1].error.detail
            one = pb.CompareRequest(inputs=[pb.Item(image=png(1))], streams=["tiny_a"])
            call = service.unary("Compare", pb.CompareResponse)(one)
            await refused(call, "INVALID_ARGUMENT", "name two or more")

    asyncio.run(run())


def test_translations_are_those_of_http(tiny_artifact: Artifact) -> None:
    async def run() -> None:
        async with both(tiny_artifact) as service:
            request = pb.TranslateRequest(
                inputs=[pb.Item(text="a dog"), pb.Item(text="")], to="tiny_a"
            )
            answer = await service.unary("Translate", pb.TranslateResponse)(request)
            body = {"inputs": [{"text": "a dog"}, {"text": ""}], "to": "tiny_a"}
            same = (await service.http.post("/v1/translate", json=body)).json()
            assert rounded(fields(answer)) == rounded(same)
            assert len(getattr(answer.results[0], "from")["tiny_text"].activations) == 24
            unknown = pb.TranslateRequest(inputs=[pb.Item(text="a")], to="nope")
            call = service.unary("Translate", pb.TranslateResponse)(unknown)
            await refused(call, "INVALID_ARGUMENT", "'nope' is no stream")

    asyncio.run(run())


def test_concepts_come_in_the_pages_of_http(tiny_artifact: Artifact) -> None:
    async def run() -> None:
        async with both(tiny_artifact) as service:
            listed = service.unary("ListConcepts", pb.ListConceptsResponse)
            first = await listed(pb.ListConceptsRequest(limit=40))
            same = (await service.http.get("/v1/concepts", params={"limit": 40})).json()
            assert rounded(fields(first)) == rounded(same)
            second = await listed(pb.ListConceptsRequest(limit=40, cursor=first.next))
            assert [c.id for c in (*first.concepts, *second.concepts)] == list(range(64))
            assert not second.next
            await refused(listed(pb.ListConceptsRequest(limit=5000)), "INVALID_ARGUMENT", "1000")
            await refused(listed(pb.ListConceptsRequest(cursor="x")), "INVALID_ARGUMENT", "cursor")

    asyncio.run(run())
