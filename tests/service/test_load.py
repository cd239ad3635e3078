"""Many clients at once: shared batches, back-pressure, and metrics that equal what was sent."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from koine.artifact import Artifact
from koine.encoder import ConceptEncoder
from service import jobs
from service.dictionaries import Dictionaries
from service.jobs import Item
from service.metrics import QUEUE_ITEMS
from service.routes import create_app, encode
from service.settings import Settings
from tests.service.inputs import image_item

Body = Callable[[httpx.AsyncClient], Awaitable[None]]


@asynccontextmanager
async def service(artifact: Artifact | str, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A ready service and a client in one event loop."""
    path = artifact if isinstance(artifact, str) else str(artifact.path)
    own = {"cache_bytes": 0, **settings}  # most tests send the same thing again to be encoded
    app = create_app(Settings(artifact=path, provider="cpu", threads=1, **own))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://koine") as client:
            while (await client.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.02)
            yield client


def run(
    artifact: Artifact, body: Callable[[httpx.AsyncClient], Awaitable[None]], **settings: Any
) -> None:
    """Runs `body` against a service of its own."""

    async def main() -> None:
        async with service(artifact, **settings) as client:
            await body(client)

    asyncio.run(main())


async def scrape(client: httpx.AsyncClient) -> dict[tuple[str, ...], float]:
    """Samples of `/metrics` by name and label values, sorted by label."""
    families = text_string_to_metric_families((await client.get("/metrics")).text)
    return {
        (sample.name, *(sample.labels[key] for key in sorted(sample.labels))): sample.value
        for family in families
        for sample in family.samples
    }


def grown(before: dict[Any, float], after: dict[Any, float], *key: str) -> float:
    """By how much one sample grew."""
    return after[key] - before.get(key, 0)


def test_metrics_equal_what_was_sent(tiny_artifact: Artifact) -> None:
    async def body(client: httpx.AsyncClient) -> None:
        before = await scrape(client)
        requests = [
            client.post("/v1/encode", json={"inputs": [image_item(n), {"text": "a dog"}]})
            for n in range(20)
        ]
        requests += [client.post("/v1/encode", json={"inputs": [{"text": ""}]}) for _ in range(3)]
        requests += [client.post("/v1/encode", content=b"{") for _ in range(4)]
        requests += [client.get(f"/nope/{n}") for n in range(5)]
        answers = await asyncio.gather(*requests)
        after = await scrape(client)
        assert [a.status_code for a in answers] == [200] * 23 + [400] * 4 + [404] * 5

        def more(*key: str) -> float:
            return grown(before, after, *key)

        assert more("koine_requests_total", "ok", "/v1/encode") == 23
        assert more("koine_requests_total", "client_error", "/v1/encode") == 4
        assert more("koine_requests_total", "client_error", "other") == 5
        assert more("koine_request_duration_seconds_count", "/v1/encode") == 27
        assert more("koine_items_total", "image", "ok") == 20
        assert more("koine_items_total", "text", "ok") == 20
        assert more("koine_items_total", "text", "error") == 3
        for stream in ("tiny_a", "tiny_b", "tiny_text"):
            assert more("koine_batch_items_sum", stream) == 20
            assert after["koine_queue_items", stream] == 0
        assert more("koine_batch_items_sum", "dictionary-heads") == 40
        assert after["koine_queue_items", "dictionary-heads"] == 0
        assert after[("koine_inflight_requests",)] == 0
        assert after[("koine_queue_limit_items",)] == 512
        # other clients' items came along: fewer passes than items
        assert more("koine_batch_items_count", "tiny_a") < 20
        assert more("koine_batch_items_count", "tiny_text") < 20

    run(tiny_artifact, body)


def test_unmatched_paths_make_no_series(tiny_artifact: Artifact) -> None:
    async def body(client: httpx.AsyncClient) -> None:
        before = await scrape(client)
        for n in range(10):
            assert (await client.get(f"/v1/nothing/{n}")).status_code == 404
            assert (await client.get(f"/v1/concepts/{n}")).status_code == 200
            assert (await client.get(f"/v2/models/m{n}")).status_code == 404
        after = await scrape(client)
        assert before.keys() == after.keys()
        assert not any("nothing" in part for key in after for part in key)
        requests = "koine_requests_total"
        assert grown(before, after, requests, "ok", "/v1/concepts/{id}") == 10
        assert grown(before, after, requests, "client_error", "/v2/models/{model}") == 10

    run(tiny_artifact, body)


def test_every_metric_is_ours_and_described(tiny_artifact: Artifact) -> None:
    async def body(client: httpx.AsyncClient) -> None:
        families = text_string_to_metric_families((await client.get("/metrics")).text)
        ours = [f for f in families if not f.name.startswith(("python_", "process_"))]
        assert len(ours) >= 12
        for family in ours:
            assert family.name.startswith("koine_")
            assert family.documentation

    run(tiny_artifact, body)


class Held:
    """Holds every backbone pass until told to go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = threading.Event()
        real = ConceptEncoder.activations

        def held(encoder: ConceptEncoder, stream: str, batch: Any) -> Any:
            assert self.go.wait(20)
            return real(encoder, stream, batch)

        self.start = lambda: monkeypatch.setattr(ConceptEncoder, "activations", held)


def test_a_full_queue_is_429_and_recovers(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)

    async def body(client: httpx.AsyncClient) -> None:
        held.start()
        one = {"inputs": [{"text": "a dog"}]}
        first = asyncio.create_task(client.post("/v1/encode", json=one))
        await asyncio.sleep(0.2)  # in the forward pass: it holds no place any more
        waiting = [asyncio.create_task(client.post("/v1/encode", json=one)) for _ in range(4)]
        await asyncio.sleep(0.2)
        refused = await client.post("/v1/encode", json=one)
        assert refused.status_code == 429
        assert refused.headers["content-type"] == "application/problem+json"
        assert int(refused.headers["retry-after"]) >= 1
        assert "4 of at most 4 items" in refused.json()["detail"]
        assert (await client.get("/readyz")).status_code == 200  # full is not dead
        assert (await client.get("/livez")).status_code == 200
        held.go.set()
        answers = await asyncio.gather(first, *waiting)
        assert [answer.status_code for answer in answers] == [200] * 5
        assert (await client.post("/v1/encode", json=one)).status_code == 200

    run(tiny_artifact, body, max_queue=4, max_items=4)


def test_a_request_that_does_not_fit_takes_no_place(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)

    async def body(client: httpx.AsyncClient) -> None:
        held.start()
        texts = {"inputs": [{"text": "a"}] * 3}
        first = asyncio.create_task(client.post("/v1/encode", json={"inputs": [{"text": "a"}]}))
        await asyncio.sleep(0.2)
        second = asyncio.create_task(client.post("/v1/encode", json=texts))
        await asyncio.sleep(0.2)
        mixed = {"inputs": [image_item(1), {"text": "a"}, {"text": "a"}]}
        assert (await client.post("/v1/encode", json=mixed)).status_code == 429
        assert (await scrape(client))["koine_queue_items", "tiny_a"] == 0
        held.go.set()
        assert (await first).status_code == (await second).status_code == 200

    run(tiny_artifact, body, max_queue=4, max_items=4)


def test_a_client_that_leaves_frees_its_places(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)

    async def body(client: httpx.AsyncClient) -> None:
        held.start()
        before = await scrape(client)
        texts = {"inputs": [{"text": "a"}] * 4}
        first = asyncio.create_task(client.post("/v1/encode", json={"inputs": [{"text": "a"}]}))
        await asyncio.sleep(0.2)
        leaving = asyncio.create_task(client.post("/v1/encode", json=texts))
        await asyncio.sleep(0.2)
        leaving.cancel()
        await asyncio.sleep(0.2)
        held.go.set()
        assert (await first).status_code == 200
        assert (await client.post("/v1/encode", json=texts)).status_code == 200
        after = await scrape(client)
        assert grown(before, after, "koine_dropped_items_total") == 4
        assert grown(before, after, "koine_requests_total", "cancelled", "/v1/encode") == 1
        assert grown(before, after, "koine_batch_items_sum", "tiny_text") == 5

    run(tiny_artifact, body, max_queue=4, max_items=4)


def test_a_closed_connection_is_noticed(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)

    async def body(client: httpx.AsyncClient) -> None:
        held.start()
        before = await scrape(client)
        messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": b'{"inputs": [{"text": "a"}]}', "more_body": False},
            {"type": "http.disconnect"},
        ]

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(0.05)
            return messages.pop(0)

        async def send(message: Any) -> None:
            pass  # nobody listens

        scope = {"type": "http", "method": "POST", "path": "/v1/encode", "headers": []}
        assert isinstance(client._transport, httpx.ASGITransport)
        await client._transport.app(scope | {"query_string": b""}, receive, send)
        held.go.set()
        after = await scrape(client)
        assert grown(before, after, "koine_requests_total", "cancelled", "/v1/encode") == 1
        assert after["koine_queue_items", "tiny_text"] == 0

    run(tiny_artifact, body)


def test_a_bad_item_gives_its_place_back_at_once(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)

    async def body(client: httpx.AsyncClient) -> None:
        held.start()
        texts = {"inputs": [{"text": ""}, {"text": ""}, {"text": "a"}]}
        work = asyncio.create_task(client.post("/v1/encode", json=texts))
        await asyncio.sleep(0.2)
        assert (await scrape(client))["koine_queue_items", "tiny_text"] == 0
        held.go.set()
        assert (await work).status_code == 200

    run(tiny_artifact, body)


def test_a_request_cancelled_at_its_start_holds_no_place(tiny_artifact: Artifact) -> None:
    async def main() -> None:
        settings = Settings(artifact=str(tiny_artifact.path), provider="cpu", threads=1, reload_s=0)
        dictionaries = Dictionaries(settings)
        await dictionaries.run()
        items = [Item(id=str(n), text="a dog") for n in range(9)]
        work = asyncio.create_task(dictionaries.find().encode(items, None, "joint"))
        await asyncio.sleep(0)  # places are taken, and no item has begun
        assert QUEUE_ITEMS.labels("tiny_text")._value.get() == 9
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        assert QUEUE_ITEMS.labels("tiny_text")._value.get() == 0
        await dictionaries.close()

    asyncio.run(main())


def test_texts_and_scrapes_do_not_wait_for_images_to_be_decoded(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    real = jobs.decode_image

    def late(data: bytes, **options: Any) -> Any:
        assert go.wait(20)
        return real(data, **options)

    monkeypatch.setattr(jobs, "decode_image", late)

    async def body(client: httpx.AsyncClient) -> None:
        images = {"inputs": [image_item(n) for n in range(64)]}
        work = asyncio.create_task(client.post("/v1/encode", json=images))
        await asyncio.sleep(0.1)
        texts = {"inputs": [{"text": "a dog"}] * 8}
        assert (await client.post("/v1/encode", json=texts)).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        assert (await scrape(client))["koine_queue_items", "tiny_a"] == 64
        assert not work.done()
        go.set()
        assert (await work).status_code == 200

    run(tiny_artifact, body)


def test_no_work_is_done_in_the_event_loop(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: dict[str, set[str]] = {}

    def spied(what: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def spy(*args: Any, **options: Any) -> Any:
            name = threading.current_thread().name
            threads.setdefault(what, set()).add(name.split("_")[0].split("-")[0])
            return real(*args, **options)

        return spy

    monkeypatch.setattr(jobs, "decode_image", spied("decode", jobs.decode_image))
    for name in ("preprocess", "tokenize", "activations", "encode"):
        real = getattr(ConceptEncoder, name)
        monkeypatch.setattr(ConceptEncoder, name, spied(name, real))
    for name in ("read_json", "answer_body"):
        monkeypatch.setattr(encode, name, spied(name, getattr(encode, name)))

    async def body(client: httpx.AsyncClient) -> None:
        threads.clear()  # loading and warming up
        big = {"inputs": [image_item(n, text="a dog " * 1000) for n in range(20)]}
        assert (await client.post("/v1/encode", json=big)).status_code == 200

    run(tiny_artifact, body)
    assert threads == {
        "read_json": {"asyncio"},
        "decode": {"decode"},
        "preprocess": {"decode"},
        "tokenize": {"tokenize"},
        "activations": {"forward"},
        "encode": {"forward"},
        "answer_body": {"asyncio"},
    }
