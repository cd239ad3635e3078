"""gRPC as BentoML's processes serve it: two workers on one port."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from koine.artifact import Artifact
from koine.proto.koine.v1 import concepts_pb2 as pb
from koine.proto.koine.v1.concepts_pb2_grpc import ConceptServiceStub
from tests.service.inputs import b64, png
from tests.service.process import Server, bentoml_serve, free_port
from tests.service.test_server import metric, wait_for_metric

ROUTE = 'koine_requests_total{outcome="ok",route="/koine.v1.ConceptService/Encode"}'


@pytest.fixture(scope="module")
def served(
    tiny_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, str]]:
    port = free_port()
    settings = {
        "KOINE_ARTIFACT": str(tiny_artifact.path),
        "KOINE_PROVIDER": "cpu",
        "KOINE_WORKERS": "2",
        "KOINE_GRPC_PORT": str(port),
    }
    with bentoml_serve(tmp_path_factory.mktemp("bentoml"), settings=settings) as server:
        wait_for_metric(server, "koine_ready", 2)
        yield server, f"127.0.0.1:{port}"


def test_workers_share_the_port(served: tuple[Server, str]) -> None:
    server, address = served
    port = int(address.rpartition(":")[2])
    workers = psutil.Process(server.process.pid).children(recursive=True)
    listening = [process for process in workers if port in _ports(process)]
    assert len(listening) == 2
    before = metric(server, ROUTE)
    for _ in range(12):  # a connection each: the kernel deals them out
        with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            request = pb.EncodeRequest(inputs=[pb.Item(text="a dog")])
            answer = ConceptServiceStub(channel).Encode(request, timeout=30)
            assert answer.results[0].codes["tiny_text"].indices
    assert metric(server, ROUTE) - before == 12


def _ports(process: psutil.Process) -> set[int]:
    """Those that it listens on."""
    connections = process.net_connections("tcp")
    return {one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN}


def test_codes_are_those_of_http(served: tuple[Server, str]) -> None:
    server, address = served
    http = server.client.post("/v1/encode", json={"inputs": [{"image": b64(png(5))}]}).json()
    with grpc.insecure_channel(address) as channel:
        request = pb.EncodeRequest(inputs=[pb.Item(image=png(5))])
        answer = ConceptServiceStub(channel).Encode(request, timeout=30)
    codes = http["results"][0]["codes"]
    assert answer.results[0].codes.keys() == codes.keys()
    for name, one in answer.results[0].codes.items():
        assert list(one.indices) == codes[name]["indices"]
        assert list(one.values) == np.array(codes[name]["values"], np.float32).tolist()


def test_health_and_a_graceful_end(
    tiny_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory
) -> None:
    port = free_port()
    settings = {
        "KOINE_ARTIFACT": str(tiny_artifact.path),
        "KOINE_PROVIDER": "cpu",
        "KOINE_GRPC_PORT": str(port),
    }
    with (
        bentoml_serve(tmp_path_factory.mktemp("bentoml"), settings=settings) as server,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        health: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="koine.v1.ConceptService")
        assert health.Check(request, timeout=30).status == health_pb2.HealthCheckResponse.SERVING
        told = health.Watch(request)
        assert next(told).status == health_pb2.HealthCheckResponse.SERVING
        server.process.send_signal(signal.SIGTERM)
        assert next(told).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError):
            next(told)
        assert server.process.wait(30) == 0
        assert "Traceback" not in server.log
