"""Deadlines, bytes in flight, timings and the choice of a dictionary, over HTTP."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest

from koine.artifact import Artifact
from koine.encoder import ConceptEncoder
from koine.errors import OverloadedError
from service.core import ByteBudget
from tests.service.inputs import image_item
from tests.service.test_load import grown, run, scrape

TEXT = {"inputs": [{"text": "a dog"}]}


class Held:
    """Keeps every backbone from answering until `go` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = threading.Event()
        real = ConceptEncoder.activations

        def late(encoder: ConceptEncoder, stream: str, batch: Any) -> Any:
            assert self.go.wait(20)
            return real(encoder, stream, batch)

        self._patch = lambda: monkeypatch.setattr(ConceptEncoder, "activations", late)

    def start(self) -> None:
        """From now on, since warm-up must pass."""
        self._patch()


def test_a_deadline_ends_a_request_and_drops_its_items(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)

    async def body(client: httpx.AsyncClient) -> None:
        before = await scrape(client)
        held.start()
        first = asyncio.create_task(client.post("/v1/encode", json=TEXT))
        await asyncio.sleep(0.2)  # it is under way
        headers = {"Koine-Timeout-Ms": "100"}
        late = await client.post("/v1/encode", json=TEXT, headers=headers)
        assert late.status_code == 504
        assert late.json()["type"] == "urn:koine:error:deadline"
        assert "within 0.1 s" in late.json()["detail"]
        held.go.set()
        assert (await first).status_code == 200
        after = await scrape(client)
        assert grown(before, after, "koine_deadline_missed_total") == 1
        assert grown(before, after, "koine_dropped_items_total") == 1
        assert after["koine_queue_items", "tiny_text"] == 0

    run(tiny_artifact, body)


@pytest.mark.parametrize("given", ["0", "-5", "1.5", "soon", "", "9" * 12])
def test_an_unreadable_deadline_is_refused(tiny_artifact: Artifact, given: str) -> None:
    async def body(client: httpx.AsyncClient) -> None:
        answer = await client.post("/v1/encode", json=TEXT, headers={"Koine-Timeout-Ms": given})
        assert answer.status_code == 400
        assert "whole milliseconds" in answer.json()["detail"]

    run(tiny_artifact, body)


def test_a_wait_beyond_the_clients_deadline_is_refused_at_once(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)

    async def body(client: httpx.AsyncClient) -> None:
        held.start()
        first = asyncio.create_task(client.post("/v1/encode", json=TEXT))
        await asyncio.sleep(0.2)
        many = {"inputs": [{"text": "a dog"}] * 200}
        second = asyncio.create_task(client.post("/v1/encode", json=many))
        await asyncio.sleep(0.2)
        answer = await client.post("/v1/encode", json=TEXT, headers={"Koine-Timeout-Ms": "50"})
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert int(answer.headers["retry-after-ms"]) > 0
        held.go.set()
        assert [(await r).status_code for r in (first, second)] == [200, 200]

    run(tiny_artifact, body)


def test_bytes_in_flight_are_bounded(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)

    async def body(client: httpx.AsyncClient) -> None:
        held.start()
        large = {"inputs": [image_item(0), {"text": "a " * 5000}]}
        first = asyncio.create_task(client.post("/v1/encode", json=large))
        await asyncio.sleep(0.2)
        refused = await client.post("/v1/encode", json=large)
        assert refused.status_code == 429
        assert "of at most 20000 bytes" in refused.json()["detail"]
        unsaid = await client.post("/v1/encode", content=_slowly(b'{"inputs": [' + b" " * 20_000))
        assert unsaid.status_code == 429
        held.go.set()
        assert (await first).status_code == 200
        assert (await client.post("/v1/encode", json=large)).status_code == 200

    run(tiny_artifact, body, max_inflight_bytes=20_000)


async def _slowly(data: bytes) -> AsyncGenerator[bytes]:
    for start in range(0, len(data), 1000):
        yield data[start : start + 1000]


def test_a_budget_is_given_back_whatever_happens() -> None:
    budget = ByteBudget(100)
    with budget.account() as one:
        one.hold(60)
        one.hold(50)  # less than it has
        with budget.account() as two:
            two.hold(30)
            with pytest.raises(OverloadedError, match="hold 90 of at most 100 bytes, 11 more"):
                two.hold(41)
        with budget.account() as three:
            three.hold(40)
    with budget.account() as alone:
        alone.hold(1000)  # nothing else is under way: its own limit has let it in


def test_timings_are_told(tiny_artifact: Artifact) -> None:
    async def body(client: httpx.AsyncClient) -> None:
        answer = await client.post("/v1/encode", json={"inputs": [image_item(1)]})
        told = dict(re.findall(r"(\w+);dur=([\d.]+)", answer.headers["server-timing"]))
        assert list(told) == ["read", "decode", "queue", "forward", "total"]
        milliseconds = {name: float(value) for name, value in told.items()}
        assert milliseconds["forward"] > 0
        parts = sum(milliseconds.values()) - milliseconds["total"]
        assert parts <= milliseconds["total"] + 0.1

    run(tiny_artifact, body)


def test_an_unknown_dictionary_is_named(tiny_artifact: Artifact) -> None:
    async def body(client: httpx.AsyncClient) -> None:
        answer = await client.post("/v1/encode", json=TEXT | {"dictionary": "birds"})
        assert answer.status_code == 404
        assert "'birds' is not served here; this service has tiny@0.1" in answer.json()["detail"]
        for name in ("tiny", "tiny@0.1"):
            answer = await client.post("/v1/encode", json=TEXT | {"dictionary": name})
            assert answer.json()["dictionary"] == "tiny@0.1"

    run(tiny_artifact, body)


def test_what_was_encoded_comes_from_the_cache(tiny_artifact: Artifact) -> None:
    async def body(client: httpx.AsyncClient) -> None:
        before = await scrape(client)
        asked = {"inputs": [image_item(1, id="a"), {"text": "a dog"}, {"text": ""}]}
        first = (await client.post("/v1/encode", json=asked)).json()
        again = (await client.post("/v1/encode", json=asked)).json()
        assert first == again
        new = {"inputs": [{"text": "a cat"}, image_item(1, id="b")]}
        mixed = (await client.post("/v1/encode", json=new)).json()["results"]
        assert mixed[1] == first["results"][0] | {"id": "b"}
        joint = await client.post("/v1/encode", json=new | {"mode": "joint"})
        assert joint.status_code == 200
        after = await scrape(client)
        assert grown(before, after, "koine_cache_requests_total", "hit", "local") == 3
        assert grown(before, after, "koine_batch_items_sum", "tiny_a") == 2  # once a mode
        unknown = await client.post("/v1/encode", json=asked | {"streams": ["nope"]})
        assert unknown.status_code == 400

    run(tiny_artifact, body, cache_bytes=1 << 20)
