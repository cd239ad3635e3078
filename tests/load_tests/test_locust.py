"""Short distributed runs of Locust, which patches sockets and so runs in processes of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from benchmarks.serving.clients import ENCODE
from load_tests import run as runner
from load_tests.bodies import ROOT
from load_tests.run import Service
from tests.load_tests.conftest import Running

ROUTES = {"http": "/v1/encode", "grpc": ENCODE}
TWENTY_AT_ONCE = """
import sys, time, gevent
from locust.env import Environment
from load_tests.transports import GrpcSender
from load_tests.wires import Message
environment, reported = Environment(), []
environment.events.request.add_listener(lambda **told: reported.append(told))
def send():
    sender = GrpcSender(environment, sys.argv[1])
    return sender.send(Message(b"", ()), "stalled").fault
begun = time.perf_counter()
users = [gevent.spawn(send) for _ in range(20)]
gevent.sleep(0.2)
awake_s = time.perf_counter() - begun
gevent.joinall(users, raise_error=True)
assert [user.value for user in users] == [None] * 20, [user.value for user in users]
assert awake_s < 0.8, awake_s
assert time.perf_counter() - begun < 5, time.perf_counter() - begun
assert {told["request_type"] for told in reported} == {"GRPC"}
assert all(told["response_time"] >= 999 for told in reported), reported
"""


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_a_master_and_two_workers_send_what_is_due(
    transport: str, running: Running, tmp_path: Path
) -> None:
    plan = runner.parsed(["--rate", "10", "--seconds", "4", "--workers", "2"])
    counter = f'koine_requests_total{{outcome="ok",route="{ROUTES[transport]}"}}'
    before = running.server.metrics().get(counter, 0)
    found = runner.run("poison", transport, running.service, plan, tmp_path)
    counted = running.server.metrics()[counter] - before
    assert found["failed"] == 0
    # 40 expected, standard deviation 6; a busy machine sends some of them late, but sends them
    assert 15 < found["requests"] < 80
    assert counted >= found["requests"]
    assert found["scheduled_ms"]["99%"] >= found["sent_ms"]["50%"] > 0
    assert (tmp_path / f"poison-{transport}.png").is_file()
    assert "locust" not in sys.modules


def test_a_server_that_is_not_there_fails_the_run(tmp_path: Path) -> None:
    plan = runner.parsed(["--rate", "5", "--seconds", "1", "--workers", "1"])
    nowhere = Service("http://127.0.0.1:9", "127.0.0.1:9")
    with pytest.raises((RuntimeError, ValueError), match="locust ended|did it run"):
        runner.run("poison", "http", nowhere, plan, tmp_path)


@pytest.fixture
def stalling() -> Iterator[str]:
    """A gRPC server that takes a second for each answer, all at once."""

    class Stalling(grpc.GenericRpcHandler):
        def service(self, handler_call_details: object) -> grpc.RpcMethodHandler:
            def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
                time.sleep(1)
                return b""

            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(ThreadPoolExecutor(20), [Stalling()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_a_call_that_waits_stops_no_other_user(stalling: str) -> None:
    command = [sys.executable, "-c", TWENTY_AT_ONCE, stalling]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
