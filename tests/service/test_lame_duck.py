"""Between SIGTERM and the end: not ready, but every request is answered, over real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from koine.artifact import Artifact
from koine.proto.koine.v1 import concepts_pb2 as pb
from koine.proto.koine.v1.concepts_pb2_grpc import ConceptServiceStub
from tests.service.process import Server, bentoml_serve, free_port
from tests.service.test_server import wait_for_metric

CLIENTS = 20
STOPPING = "the service is stopping; send requests to another instance"


class Answer(NamedTuple):
    """What one request came to: a status, or how its connection failed."""

    status: int | str
    closes: bool
    body: bytes
    at: float


class KeepAlive:
    """One client: keeps its connection until an answer says `Connection: close`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: bytes = b"") -> Answer:
        """Sends once, never again."""
        fresh = self._streams is None
        if self._streams is None:
            try:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            except ConnectionError:  # a reset too, where the handshake was under way
                return Answer("refused", True, b"", time.monotonic())
        reader, writer = self._streams
        writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: koine\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            got = await reader.readexactly(int(head.split("content-length: ")[1].split()[0]))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self.close()
            reset = fresh and isinstance(error, ConnectionResetError)
            return Answer("reset" if reset else repr(error), True, b"", time.monotonic())
        if closes := "connection: close" in head:
            assert await reader.read() == b""
            self.close()
        return Answer(int(head.split()[1]), closes, got, time.monotonic())

    async def until_refused(self) -> list[Answer]:
        """One encode after another, until nobody listens.

        A connection made between a worker's last accept and its close is reset by the kernel, as
        if refused; no server can help that, and few clients may meet it.
        """
        body = json.dumps({"inputs": [{"text": "a dog"}]}).encode()
        answers = [await self.ask("POST", "/v1/encode", body)]
        while answers[-1].status not in ("refused", "reset"):
            answers.append(await self.ask("POST", "/v1/encode", body))
        return answers

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def port_of(server: Server) -> int:
    port = server.client.base_url.port
    assert port is not None
    return port


@pytest.mark.parametrize("workers", [1, 2])
def test_clients_that_never_stop_lose_no_request(
    tiny_artifact: Artifact, tmp_path: Path, workers: int
) -> None:
    settings = {
        "KOINE_ARTIFACT": str(tiny_artifact.path),
        "KOINE_PROVIDER": "cpu",
        "KOINE_WORKERS": str(workers),
    }

    async def run(server: Server) -> list[list[Answer]]:
        clients = [KeepAlive(port_of(server)) for _ in range(CLIENTS)]
        loops = [asyncio.create_task(client.until_refused()) for client in clients]
        await asyncio.sleep(1)
        server.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            return await asyncio.gather(*loops)

    with bentoml_serve(tmp_path, settings=settings) as server:
        wait_for_metric(server, "koine_ready", workers)
        answers = asyncio.run(run(server))
        assert server.process.wait(20) == 0
        assert "Traceback" not in server.log
    assert sum(one[-1].status == "reset" for one in answers) <= workers
    for one in answers:
        assert {answer.status for answer in one[:-1]} == {200}
        assert any(not answer.closes for answer in one)
        assert one[-2].closes


def test_not_ready_but_answering(tiny_artifact: Artifact, tmp_path: Path) -> None:
    rpc_port = free_port()
    settings = {
        "KOINE_ARTIFACT": str(tiny_artifact.path),
        "KOINE_PROVIDER": "cpu",
        "KOINE_GRPC_PORT": str(rpc_port),
        "KOINE_LAME_DUCK_S": "3",
    }

    async def run(server: Server) -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{rpc_port}") as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)  # pyright: ignore[reportUnknownMemberType]
            watches = [
                health.Watch(health_pb2.HealthCheckRequest(service=name))
                for name in ("", "koine.v1.ConceptService", "inference.GRPCInferenceService")
            ]
            for watch in watches:
                assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            client, idle = KeepAlive(port_of(server)), KeepAlive(port_of(server))
            assert (await idle.ask("GET", "/readyz")).status == 200
            server.process.send_signal(signal.SIGTERM)
            for watch in watches:
                assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            told = time.monotonic()
            answer = await idle.ask("GET", "/livez")
            assert (answer.status, answer.closes) == (200, True)
            for path in ("/readyz", "/v2/health/ready", "/v2/models/tiny/ready"):
                answer = await client.ask("GET", path)
                assert (answer.status, answer.closes) == (503, True)
                assert json.loads(answer.body)["detail"] == STOPPING
            request = pb.EncodeRequest(inputs=[pb.Item(text="a dog")])
            call: Any = ConceptServiceStub(channel).Encode
            assert (await call(request, timeout=5)).results[0].codes
            answer = (await client.until_refused())[-1]
            assert told + 1 < answer.at < told + 8

    with bentoml_serve(tmp_path, settings=settings) as server:
        asyncio.run(run(server))
        assert server.process.wait(20) == 0
        assert "Traceback" not in server.log


def again(server: Server) -> None:
    """A second SIGTERM, to the worker itself."""
    server.process.send_signal(signal.SIGTERM)
    while server.client.get("/readyz").status_code == 200:
        pass
    for worker in psutil.Process(server.process.pid).children():
        worker.terminate()


def ctrl_c(server: Server) -> None:
    """As a terminal sends it: to every process."""
    os.killpg(server.process.pid, signal.SIGINT)


@pytest.mark.parametrize("stop", [again, ctrl_c])
def test_who_insists_does_not_wait(
    tiny_artifact: Artifact, tmp_path: Path, stop: Callable[[Server], None]
) -> None:
    settings = {
        "KOINE_ARTIFACT": str(tiny_artifact.path),
        "KOINE_PROVIDER": "cpu",
        "KOINE_LAME_DUCK_S": "100",
    }
    with bentoml_serve(tmp_path, settings=settings) as server:
        begun = time.monotonic()
        stop(server)
        assert server.process.wait(20) == 0
        assert time.monotonic() - begun < 10
        assert "Traceback" not in server.log
