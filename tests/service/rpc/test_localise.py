"""`Localize`: what HTTP answers, as a message."""

from __future__ import annotations

import asyncio
import base64

import numpy as np

from koine.artifact import Artifact
from koine.proto.koine.v1 import concepts_pb2 as pb
from tests.service.inputs import b64, png
from tests.service.rpc.conftest import both, refused


def test_heat_is_that_of_http(localising_artifact: Artifact) -> None:
    async def run() -> None:
        async with both(localising_artifact) as service:
            localize = service.unary("Localize", pb.LocalizeResponse)
            answer = await localize(pb.LocalizeRequest(image=png(1), text="dog"))
            body = {"image": b64(png(1)), "text": "dog"}
            same = (await service.http.post("/v1/localize", json=body)).json()
            assert answer.concept.id == same["concept"]["id"] == 8
            assert answer.resolved.by == same["resolved"]["by"] == "label"
            assert list(answer.grid.box) == same["grid"]["box"]
            heat_GG = np.array(answer.grid.heat).reshape(answer.grid.side, -1)
            np.testing.assert_allclose(heat_GG, same["grid"]["heat"], rtol=1e-6)
            assert answer.overlay == base64.b64decode(same["overlay"])
            assert (answer.width, answer.height) == (same["width"], same["height"])

            for request, code, told in (
                (pb.LocalizeRequest(image=png(1)), "INVALID_ARGUMENT", "neither"),
                (pb.LocalizeRequest(image=png(1), concept=64), "NOT_FOUND", "from 0 to 63"),
                (pb.LocalizeRequest(concept=5), "INVALID_ARGUMENT", "empty"),
            ):
                await refused(localize(request), code, told)

    asyncio.run(run())
