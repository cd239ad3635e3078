"""Servers that refuse, hang, break off or answer nonsense: a caller gets an error, in time."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import httpx
import pytest

from koine.artifact import Artifact
from koine.client import AsyncClient, Client, Encoded, Text
from koine.errors import (
    ClientError,
    DeadlineError,
    KoineError,
    OverloadedError,
    RateLimitError,
    RequestError,
    ServiceUnavailableError,
    TooLargeError,
    UnauthorizedError,
)
from tests.koine.client.canned import INFO, Answer, Asked, Silence, canned, encoded, http, problem
from tests.koine.client.conftest import Run
from tests.koine.client.service_thread import Served, serving

FEW = [Text("a dog"), Text("a cat")]
LATE_S = 10.0
"""A busy machine may add this much to a timeout; what is told apart is more."""


def failing(times: int, answer: Answer) -> Any:
    """A script that gives `answer` so many times, and codes after that."""
    return lambda asked, n: answer if n < times else encoded


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(b"", id="closes at once"),
        pytest.param(lambda asked: encoded(asked)[:-20], id="closes mid-answer"),
        pytest.param(b"\x00garbage\r\n\r\n", id="garbage"),
        pytest.param(problem(429, "overloaded"), id="429"),
        pytest.param(problem(429, "rate-limit"), id="rate limit"),
        pytest.param(problem(503, "not-ready", Retry_After_Ms="1"), id="503"),
        pytest.param(http(502, b"<html>"), id="502"),
    ],
)
def test_passing_faults_are_tried_again(call: Run, fault: Any) -> None:
    with canned(failing(2, fault)) as server:
        got = call(server.url, "encode", FEW, client={})
    assert [item.id for item in got.items] == ["0", "1"]  # by order, whatever ids came back
    assert len(server.asked) == 3
    assert len({asked.body for asked in server.asked}) == 1


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (400, "request", RequestError),
        (401, "unauthorized", UnauthorizedError),
        (500, "internal", KoineError),
        (504, "deadline", DeadlineError),
    ],
)
def test_lasting_faults_are_tried_once(
    call: Run, status: int, kind: str, error: type[KoineError]
) -> None:
    with (
        canned(lambda asked, n: problem(status, kind)) as server,
        pytest.raises(error, match=f"refused: {kind}") as caught,
    ):
        call(server.url, "encode", FEW, client={})
    assert type(caught.value) is error
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (http(200, b"<html>hello</html>", Content_Type="text/html"), "text/html"),
        (http(200, {"results": []}), "0 results for 2 items"),
        (http(200, {"results": [{"id": "0"}, {"id": "1"}]}), "KeyError"),
        (http(200, [1]), "TypeError"),
        (http(200, b'{"results":' + b"[" * 100_000), "not Koine's"),
        (http(204, b""), "HTTP 204"),
        (http(302, b"", Location="http://elsewhere/"), "points elsewhere"),
        (http(404, {"type": "about:blank", "title": "t", "detail": "no such path"}), "no such"),
    ],
)
def test_answers_of_something_else_are_told_as_such(call: Run, answer: bytes, told: str) -> None:
    with canned(lambda asked, n: answer) as server, pytest.raises(ClientError, match=told):
        call(server.url, "encode", FEW, client={})
    assert len(server.asked) == 1


@pytest.mark.parametrize("drips", [False, True])
def test_a_server_that_hangs_is_left_in_time(call: Run, drips: bool) -> None:
    over = threading.Event()

    def drip(asked: Asked) -> bytes:
        return http(200, b"{}").replace(b"Length: 2", b"Length: 200")

    # half an answer and then silence, or silence at once
    script = (lambda asked, n: drip) if drips else (lambda asked, n: Silence(60))
    with canned(script) as server:
        if drips:
            server.linger = over
        start = time.monotonic()
        with pytest.raises(DeadlineError, match="within"):
            call(server.url, "encode", FEW, client={"timeout": 0.5})
        assert time.monotonic() - start < 0.5 + LATE_S
        over.set()
        assert 0 < int(server.asked[0].headers["koine-timeout-ms"]) <= 500


def test_the_time_left_shrinks_from_try_to_try(call: Run) -> None:
    with canned(failing(2, problem(503, "not-ready", Retry_After_Ms="200"))) as server:
        call(server.url, "encode", FEW, client={"timeout": 20.0})
    left = [int(asked.headers["koine-timeout-ms"]) for asked in server.asked]
    assert 20_000 >= left[0] >= left[1] + 200 >= left[2] + 400


@pytest.mark.parametrize("header", [{"Retry_After": "1"}, {"Retry_After_Ms": "600"}])
def test_retry_after_is_honoured(call: Run, header: dict[str, str]) -> None:
    with canned(failing(1, problem(429, "overloaded", **header))) as server:
        call(server.url, "encode", FEW, client={})
    first, second = (asked.at for asked in server.asked)
    assert second - first >= (1.0 if "Retry_After" in header else 0.6)


def test_a_wait_beyond_the_deadline_is_told_at_once(call: Run) -> None:
    with canned(lambda asked, n: problem(429, "rate-limit", Retry_After="3600")) as server:
        start = time.monotonic()
        with pytest.raises(RateLimitError) as caught:
            call(server.url, "encode", FEW, client={"timeout": 60.0})
    assert time.monotonic() - start < LATE_S
    assert caught.value.retry_after_s == 3600
    assert len(server.asked) == 1


def test_a_fleet_of_calls_does_not_amplify_an_outage() -> None:
    with canned(lambda asked, n: problem(503, "not-ready", Retry_After_Ms="1")) as server:
        start = time.monotonic()
        with Client(server.url) as client:
            for _ in range(50):
                with pytest.raises(KoineError, match="refused"):
                    client.encode(FEW)
        elapsed_s = time.monotonic() - start
        assert 50 + 10 <= len(server.asked) <= 50 * 1.2 + 10 + elapsed_s + 1


def test_no_retries_where_none_are_wanted(call: Run) -> None:
    with canned(lambda asked, n: b"") as server, pytest.raises(ServiceUnavailableError):
        call(server.url, "encode", FEW, client={"retries": 0})
    assert len(server.asked) == 1


def test_too_large_is_split_and_a_single_item_becomes_its_error(call: Run) -> None:
    def script(asked: Asked, n: int) -> Answer:
        inputs = asked.json["inputs"]
        heavy = any(item["text"] == "heavy" for item in inputs)
        return problem(413, "too-large") if heavy or len(inputs) > 2 else encoded

    inputs = [Text("heavy" if n == 5 else "light", id=f"i{n}") for n in range(8)]
    with canned(script) as server:
        got = call(server.url, "encode", inputs, client={})
    assert [item.id for item in got.items] == [f"i{n}" for n in range(8)]
    assert {n: error.exception().__class__ for n, error in got.failed.items()} == {5: TooLargeError}
    sizes = [len(asked.json["inputs"]) for asked in server.asked]
    assert sizes == [8, 4, 2, 2, 4, 2, 1, 1, 2]


def test_messages_beyond_grpcs_own_limit_are_split(tiny_artifact: Artifact) -> None:
    texts = [Text(f"a dog {'x' * 1000} {n}", id=f"i{n}") for n in range(10)]
    texts.append(Text("y" * 9000))
    limit: dict[str, Any] = {"max_body_bytes": 2**20, "grpc_max_message_bytes": 4096}
    with serving(tiny_artifact, **limit) as served, Client(served.grpc) as client:
        got = client.encode(texts)
    assert {n: error.type for n, error in got.failed.items()} == {10: "urn:koine:error:too-large"}
    assert [item.id for item in got.items] == [*(f"i{n}" for n in range(10)), "10"]


def test_requests_keep_to_the_services_limits(call: Run) -> None:
    with canned(lambda asked, n: encoded) as server:
        server.info = INFO | {"limits": INFO["limits"] | {"body_bytes": 6000}}
        inputs = [Text("x" * 500) for _ in range(20)] + [Text("y" * 5000)]
        got = call(server.url, "encode", inputs, client={})
    assert "at most 1904" in got.failed.pop(20).detail  # 6000 without the envelope's 4096
    assert not got.failed.pop(0, None)
    assert max(len(asked.body) for asked in server.asked) <= 6000
    assert max(len(asked.json["inputs"]) for asked in server.asked) == 3


def test_codes_of_two_dictionaries_are_not_mixed(call: Run) -> None:
    def script(asked: Asked, n: int) -> Answer:
        title = b"tiny@0.1" if asked.json["inputs"][0]["id"] == "0" else b"tiny@0.2"
        return encoded(asked).replace(b"tiny@0.1", title)

    with canned(script) as server:
        with pytest.raises(ClientError, match=r"tiny@0\.1, tiny@0\.2"):
            call(server.url, "encode", [Text("a")] * 9, client={})
        got = call(server.url, "encode_stream", [Text("a")] * 9, client={})
    assert [item.dictionary for item in got] == ["tiny@0.1"] * 8 + ["tiny@0.2"]


def test_one_failed_request_fails_the_call_and_stops_the_others(call: Run) -> None:
    def script(asked: Asked, n: int) -> Answer:
        first = asked.json["inputs"][0]["id"] == "0"
        return problem(400, "request") if first else problem(503, "not-ready", Retry_After="20")

    with canned(script) as server:
        start = time.monotonic()
        with pytest.raises(RequestError):
            call(server.url, "encode", [Text("a")] * 400, client={"timeout": 60.0})
        assert time.monotonic() - start < LATE_S
    assert len(server.asked) <= 8


def test_a_key_that_may_not_see_the_info_still_encodes(call: Run) -> None:
    with canned(lambda asked, n: encoded) as server:
        server.refuse_info = problem(403, "forbidden")
        got = call(server.url, "encode", [Text("a")] * 100, client={})
    assert len(got.items) == 100
    assert max(len(asked.json["inputs"]) for asked in server.asked) == 64


def test_a_full_queue_is_waited_for(tiny_artifact: Artifact) -> None:
    with serving(tiny_artifact, max_queue=1, max_items=1, max_batch=1) as served:
        dictionary = served.core.dictionaries.find()
        for wire in (served.http, served.grpc):
            # somebody else's item fills the queue, for a while
            batcher = dictionary._batchers["tiny_text"]
            batcher.hold(1)
            timer = threading.Timer(0.5, batcher.release, args=(1,))
            with (
                Client(wire, retries=0) as client,
                pytest.raises(OverloadedError, match="holds 1 of at most 1"),
            ):
                client.encode([Text("a dog")])
            with Client(wire, retries=8) as client:
                timer.start()
                got = client.encode([Text("a dog")])
            timer.join()
            assert not got.failed


def test_a_cancelled_call_leaves_nothing_running(served: Served) -> None:
    async def main() -> None:
        with canned(lambda asked, n: Silence(60)) as server:
            async with AsyncClient(server.url, timeout=60.0) as client:
                task = asyncio.create_task(client.encode([Text("a")] * 100))
                while len(server.asked) < 4:
                    await asyncio.sleep(0.01)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asyncio.wait_for(task, 20)
                assert asyncio.all_tasks() == {asyncio.current_task()}
        async with AsyncClient(served.http) as client:
            stream = client.encode_stream([Text("a")] * 400)
            assert (await anext(stream)).id == "0"
            await stream.aclose()  # pyright: ignore[reportAttributeAccessIssue]
            assert not [t for t in asyncio.all_tasks() if "answer" in repr(t)]
            assert len((await client.encode(FEW)).items) == 2

    asyncio.run(main())


@pytest.mark.parametrize("wire", ["http", "grpc"])
def test_a_closed_client_says_so(call: Run, served: Served, wire: str) -> None:
    url = served.http if wire == "http" else served.grpc
    client = Client(url)
    client.encode(FEW)
    client.close()
    client.close()
    for inputs in (FEW, []):
        with pytest.raises(ClientError, match="closed; make a new one"):
            client.encode(inputs)

    async def main() -> None:
        client = AsyncClient(url)
        await client.encode(FEW)
        await client.close()
        with pytest.raises(ClientError, match="closed; make a new one"):
            await client.encode(FEW)

    asyncio.run(main())


def test_closing_ends_what_is_under_way() -> None:
    errors: list[BaseException] = []
    with canned(lambda asked, n: Silence(60)) as server:
        client = Client(server.url, timeout=60.0)

        def work() -> None:
            try:
                client.encode(FEW)
            except KoineError as error:
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        while len(server.asked) < 3:
            time.sleep(0.01)
        client.close()
        for thread in threads:
            thread.join(20)
    assert [type(error) for error in errors] == [ClientError] * 3


def test_a_forked_process_gets_connections_of_its_own(served: Served) -> None:
    client = Client(served.http)
    client.encode(FEW)
    first = client._transport._running()  # pyright: ignore
    first._pid += 1  # as a child finds it
    assert len(client.encode(FEW).items) == 2
    assert client._transport._running() is not first  # pyright: ignore
    client.close()
    first._pid -= 1
    first.close()


def test_another_transport_of_httpx(tiny_artifact: Artifact) -> None:
    """In a test of one's own: the app in this very process, without a socket."""
    from service.routes import create_app
    from service.settings import Settings

    async def main() -> Encoded:
        own = {"provider": "cpu", "threads": 1, "grpc_port": 0}
        app = create_app(Settings(artifact=str(tiny_artifact.path), **own))
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with AsyncClient("http://localhost", http_transport=transport) as client:
                while not await client.ready():
                    await asyncio.sleep(0.02)
                return await client.encode(FEW)

    assert not asyncio.run(main()).failed
