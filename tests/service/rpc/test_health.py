"""Health, reflection, ports and the end of the gRPC server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2

from koine.artifact import Artifact
from koine.encoder import ConceptEncoder
from koine.errors import SettingsError
from koine.proto.inference import open_inference_pb2 as oip_pb
from koine.proto.koine.v1 import concepts_pb2 as pb
from service.core import Core
from service.lame_duck import LAME_DUCK
from service.rpc.health import ready
from service.rpc.server import RpcServer, check_port
from service.settings import Settings
from tests.service.process import BENTOML, ROOT, environment, free_port
from tests.service.rpc.conftest import MODELS, Both, Held, both, refused, until, waiting

SERVICES = ("", "koine.v1.ConceptService", "inference.GRPCInferenceService")
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
TEXT = pb.Item(text="a dog")


async def state(service: Both, name: str = "") -> int:
    """What `Check` says."""
    check = service.unary("Check", health_pb2.HealthCheckResponse, "/grpc.health.v1.Health/")
    return (await check(health_pb2.HealthCheckRequest(service=name))).status


def watch(service: Both, name: str = "") -> grpc.aio.UnaryStreamCall:
    """What `Watch` says, as it changes."""
    method = service.channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    return method(health_pb2.HealthCheckRequest(service=name))


async def next_state(call: grpc.aio.UnaryStreamCall) -> int:
    """The next state that a watcher is told."""
    async with asyncio.timeout(30):
        told: Any = await call.read()
        return told.status


def test_health_follows_loading(tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    warm = threading.Event()
    real = ConceptEncoder.warm_up

    def late(encoder: ConceptEncoder) -> None:
        assert warm.wait(20)
        real(encoder)

    async def run() -> None:
        async with both(tiny_artifact, wait=False) as service:
            watchers = [watch(service, name) for name in SERVICES]
            leaving, unknown = watch(service), watch(service, "nobody")
            for call in (*watchers, leaving):
                assert await next_state(call) == NOT_SERVING
            assert await next_state(unknown) == UNKNOWN
            leaving.cancel()  # must not take the other watchers along
            for name in SERVICES:
                assert await state(service, name) == NOT_SERVING
            await refused(state(service, "nobody"), "NOT_FOUND", "'nobody' is no service")
            await refused(service.encode(TEXT), "UNAVAILABLE", "verified and warmed up; try again")
            warm.set()
            for call in watchers:
                assert await next_state(call) == SERVING
            for name in SERVICES:
                assert await state(service, name) == SERVING
            assert (await service.encode(TEXT)).results[0].codes

    monkeypatch.setattr(ConceptEncoder, "warm_up", late)
    asyncio.run(run())


def test_a_failed_load_never_serves() -> None:
    async def run() -> None:
        async with both(None, wait=False) as service:
            await until(lambda: "nowhere" in service.core.dictionaries._reason)
            await asyncio.sleep(0.5)
            assert await state(service) == NOT_SERVING
            await refused(service.encode(TEXT), "UNAVAILABLE", "nowhere does not exist")

    asyncio.run(run())


def test_before_the_end_calls_are_answered(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with both(tiny_artifact) as service:
            server_ready = service.unary("ServerReady", oip_pb.ServerReadyResponse, MODELS)
            model_ready = service.unary("ModelReady", oip_pb.ModelReadyResponse, MODELS)
            of_tiny = oip_pb.ModelReadyRequest(name="tiny")
            assert (await server_ready(oip_pb.ServerReadyRequest())).ready
            assert (await model_ready(of_tiny)).ready
            watcher = watch(service)
            assert await next_state(watcher) == SERVING
            monkeypatch.setattr(LAME_DUCK, "begun", True)
            for follower in LAME_DUCK.followers:
                follower()
            assert await next_state(watcher) == NOT_SERVING
            assert not (await server_ready(oip_pb.ServerReadyRequest())).ready
            assert not (await model_ready(of_tiny)).ready
            for name in SERVICES:
                assert await state(service, name) == NOT_SERVING
            assert (await service.encode(TEXT)).results[0].codes

    monkeypatch.setattr("service.rpc.health.LOOK_EVERY_S", 1000)
    asyncio.run(run())


def test_a_dead_loop_is_not_serving(tiny_artifact: Artifact) -> None:
    async def run() -> None:
        async with both(tiny_artifact) as service:
            call = watch(service)
            while await next_state(call) != SERVING:
                pass
            loop = service.core.dictionaries.find()._batchers["tiny_a"]._loop
            assert loop is not None
            loop.cancel()
            assert await next_state(call) == NOT_SERVING

    asyncio.run(run())


@asynccontextmanager
async def bare(artifact: Artifact, **more: Any) -> AsyncIterator[tuple[Both, RpcServer]]:
    """A server that the test stops itself, while its client still has a channel."""
    settings = Settings(
        artifact=str(artifact.path), provider="cpu", threads=1, grpc_port=free_port(), **more
    )
    core = Core(settings)
    await core.start()
    await until(lambda: ready(core))
    server = RpcServer(core)
    await server.start()
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{settings.grpc_port}") as channel,
        httpx.AsyncClient() as nobody,
    ):
        yield Both(core, nobody, channel, settings.grpc_port), server
    await core.close()


def users(service: Both) -> int:
    """Requests that use the dictionary."""
    return service.core.dictionaries.find()._users


def test_stopping_finishes_what_is_under_way(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        held = Held(monkeypatch)
        async with bare(tiny_artifact) as (service, server):
            watcher = watch(service)
            while await next_state(watcher) != SERVING:
                pass
            held.start()
            call = asyncio.create_task(service.encode(TEXT, timeout=None))
            await until(lambda: users(service) == 1)
            stream = service.stream()()
            await stream.write(pb.EncodeRequest(inputs=[TEXT], request_id="read"))
            await until(lambda: users(service) == 2)
            stopping = asyncio.create_task(server.stop())
            assert await next_state(watcher) == NOT_SERVING
            await asyncio.sleep(0.1)
            assert not stopping.done()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{service.port}") as other:
                late = service._replace(channel=other)
                await refused(late.encode(TEXT, timeout=5), "UNAVAILABLE")
            held.go.set()
            assert (await call).results[0].codes
            assert (await stream.read()).request_id == "read"
            await refused(stream.read(), "UNAVAILABLE", "the service is stopping")
            async with asyncio.timeout(20):  # of 30, though the watcher never ends
                await stopping

    asyncio.run(run())


def test_what_does_not_end_is_cut_off(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        held = Held(monkeypatch)
        async with bare(tiny_artifact, drain_s=0.2) as (service, server):
            held.start()
            call = asyncio.create_task(service.encode(TEXT, timeout=None))
            await until(lambda: users(service) == 1)
            await server.stop()
            await refused(call, "CANCELLED|UNAVAILABLE")
            held.go.set()

    asyncio.run(run())


def test_a_port_in_use_is_one_sentence(tiny_artifact: Artifact) -> None:
    async def run() -> None:
        async with both(tiny_artifact) as service:
            taken = Settings(artifact=str(tiny_artifact.path), grpc_port=service.port)
            words = f"127.0.0.1:{service.port} .*; set KOINE_GRPC_PORT to a free port"
            with pytest.raises(SettingsError, match=words):
                check_port(taken)
            with pytest.raises(SettingsError, match=words):
                await RpcServer(Core(taken)).start()
            with pytest.raises(SettingsError, match=words):
                async with both(tiny_artifact, grpc_port=service.port):
                    pass
            assert (await service.encode(TEXT)).results[0].codes

    asyncio.run(run())


def test_workers_share_a_port_and_strangers_are_noticed(tiny_artifact: Artifact) -> None:
    async def run() -> None:
        async with both(tiny_artifact, workers=2) as service:
            again = Settings(artifact=str(tiny_artifact.path), grpc_port=service.port, workers=2)
            second = RpcServer(Core(again))
            await second.start()
            await second.stop()
            with pytest.raises(SettingsError, match="KOINE_GRPC_PORT"):
                check_port(again)

    asyncio.run(run())


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"192\.0\.2\.1:\d+ .*KOINE_GRPC_HOST"):
        check_port(Settings(grpc_host="192.0.2.1", grpc_port=free_port()))


def test_port_0_is_no_grpc(tiny_artifact: Artifact) -> None:
    check_port(Settings(grpc_port=0))

    async def run() -> None:
        async with both(tiny_artifact, grpc_port=0) as service:
            answer = await service.http.post("/v1/encode", json={"inputs": [{"text": "a"}]})
            assert answer.status_code == 200

    asyncio.run(run())


def test_a_server_on_a_taken_port_says_so(tiny_artifact: Artifact, tmp_path: Path) -> None:
    async def run() -> None:
        async with both(tiny_artifact) as service:
            settings = {
                "KOINE_ARTIFACT": str(tiny_artifact.path),
                "KOINE_GRPC_PORT": str(service.port),
            }
            command = [str(BENTOML), "serve", "service.app:ConceptService"]
            ended = await asyncio.to_thread(
                subprocess.run,
                [*command, "--host", "127.0.0.1", "--port", str(free_port())],
                cwd=ROOT,
                env=environment(tmp_path, **settings),
                capture_output=True,
                text=True,
                timeout=90,
                check=False,
            )
            assert ended.returncode != 0
            sentence = f"gRPC's address 127.0.0.1:{service.port}"
            assert sentence in ended.stdout + ended.stderr
            assert "Traceback" not in ended.stdout + ended.stderr

    asyncio.run(run())


def test_reflection_describes_every_service(tiny_artifact: Artifact) -> None:
    """In a process of its own: its database is made for synchronous channels."""
    code = """
import sys, grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
with grpc.insecure_channel(sys.argv[1]) as channel:
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(database)
    print(sorted(database.get_services()))
    for name in ("koine.v1.ConceptService", "inference.GRPCInferenceService"):
        print(sorted(pool.FindServiceByName(name).methods_by_name))
"""

    async def run() -> None:
        async with both(tiny_artifact) as service:
            seen = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-c", code, f"127.0.0.1:{service.port}"],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert seen.returncode == 0, seen.stderr
            for name in (*SERVICES[1:], "grpc.health.v1.Health", "ServerReflection"):
                assert name in seen.stdout
            assert "'EncodeStream'" in seen.stdout
            assert "'ModelInfer'" in seen.stdout

    asyncio.run(run())
    assert waiting() == 0
