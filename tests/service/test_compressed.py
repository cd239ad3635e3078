"""Compressed bodies: read by every endpoint, unpacked to the limit and no further."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from koine.artifact import Artifact
from koine.errors import OverloadedError, TooLargeError
from service.compression import unpacked
from service.core import ByteBudget
from tests.service.conftest import serving
from tests.service.test_unhappy_requests import JSON, problem_of

BODY = json.dumps({"inputs": [{"text": "a dog"}]}).encode()
PACK = {"gzip": gzip.compress, "deflate": zlib.compress}
LIMIT = 2**21


@pytest.fixture(scope="module")
def narrow(tiny_artifact: Artifact) -> Iterator[TestClient]:
    with serving(tiny_artifact, max_body_bytes=LIMIT) as client:
        yield client


def send(client: TestClient, body: bytes, encoding: str) -> Any:
    headers = JSON | {"content-encoding": encoding}
    return client.post("/v1/encode", content=body, headers=headers)


@pytest.mark.parametrize("encoding", [*PACK, "GZIP"])
def test_the_same_codes_as_without(client: TestClient, encoding: str) -> None:
    plain = client.post("/v1/encode", content=BODY, headers=JSON)
    packed = send(client, PACK[encoding.lower()](BODY), encoding)
    assert packed.status_code == 200, packed.text
    assert packed.json() == plain.json()
    assert send(client, BODY, "identity").json() == plain.json()


@pytest.mark.parametrize("encoding", PACK)
def test_bodies_over_several_steps_are_whole(narrow: TestClient, encoding: str) -> None:
    body = BODY + b" " * (LIMIT - len(BODY))
    assert send(narrow, PACK[encoding](body), encoding).status_code == 200


@pytest.mark.parametrize("encoding", PACK)
def test_what_is_no_such_thing_is_400(client: TestClient, encoding: str) -> None:
    packed = PACK[encoding](BODY)
    assert f"no {encoding}" in problem_of(send(client, BODY, encoding), 400)
    assert "ends early" in problem_of(send(client, packed[:-1], encoding), 400)
    assert "ends early" in problem_of(send(client, packed[:3], encoding), 400)
    assert "follow the end" in problem_of(send(client, packed + packed, encoding), 400)
    assert "empty" in problem_of(send(client, PACK[encoding](b""), encoding), 400)
    assert "empty" in problem_of(send(client, b"", encoding), 400)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "x" * 300])
def test_other_encodings_are_415(client: TestClient, encoding: str) -> None:
    detail = problem_of(send(client, BODY, encoding), 415)
    assert "gzip, deflate" in detail
    assert len(detail) < 200


@pytest.mark.parametrize("encoding", PACK)
def test_bombs_are_413_before_they_are_in_memory(narrow: TestClient, encoding: str) -> None:
    bomb = PACK[encoding](bytes(256 * 2**20))
    assert len(bomb) < 2**19
    tracemalloc.start()
    try:
        detail = problem_of(send(narrow, bomb, encoding), 413)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert f"larger than {LIMIT} bytes" in detail
    assert peak < 10 * LIMIT


def test_what_is_unpacked_is_held_beside_what_came() -> None:
    async def main() -> None:
        body = gzip.compress(bytes(3 * 2**20))
        budget = ByteBudget(2**22)
        with budget.account() as account:
            account.hold(len(body))
            assert len(await unpacked(body, "gzip", 2**22, account)) == 3 * 2**20
            assert account.held == len(body) + 3 * 2**20
            with budget.account() as other, pytest.raises(OverloadedError):
                await unpacked(body, "gzip", 2**22, other)
            with budget.account() as other, pytest.raises(TooLargeError):
                await unpacked(body, "gzip", 100, other)

    asyncio.run(main())
