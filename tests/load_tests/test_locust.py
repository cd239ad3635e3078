"""Short distributed runs of Locust, which patches sockets and so runs in processes of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
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


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_a_master_and_two_workers_send_what_is_due(
    transport: str, running: Running, tmp_path: Path
) -> None:
    plan = runner.parsed(["--rate", "20", "--seconds", "2", "--workers", "2"])
    counter = f'koine_requests_total{{outcome="ok",route="{ROUTES[transport]}"}}'
    before = running.server.metrics().get(counter, 0)
    found = runner.run("poison", transport, running.service, plan, tmp_path)
    counted = running.server.metrics()[counter] - before
    assert found["failed"] == 0
    # 40 expected, standard deviation 6; a busy machine sends some of them late, but sends them
    assert 15 < found["requests"] < 80
    assert counted == found["requests"]
    assert found["scheduled_ms"]["99%"] >= found["sent_ms"]["50%"] > 0
    assert (tmp_path / f"poison-{transport}.png").is_file()
    assert "locust" not in sys.modules


def test_a_server_that_is_not_there_fails_the_run(tmp_path: Path) -> None:
    plan = runner.parsed(["--rate", "5", "--seconds", "1", "--workers", "1"])
    nowhere = Service("http://127.0.0.1:9", "127.0.0.1:9")
    with pytest.raises((RuntimeError, ValueError), match="locust ended|did it run"):
        runner.run("poison", "http", nowhere, plan, tmp_path)


class Stalling(grpc.GenericRpcHandler):
    """Takes a second for each answer, of any number at once, and notes who asks."""

    def __init__(self) -> None:
        self.peers: set[str] = set()

    def service(self, handler_call_details: object) -> grpc.RpcMethodHandler:
        """Called by gRPC."""

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            self.peers.add(context.peer())
            time.sleep(1)
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


def test_a_call_that_waits_stops_no_other_user() -> None:
    stalling = Stalling()
    with ThreadPoolExecutor(20) as threads:
        server = grpc.server(threads, [stalling])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        command = [sys.executable, "-m", "tests.load_tests.senders", f"127.0.0.1:{port}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        server.stop(None).wait()
    assert done.returncode == 0, done.stderr
    awake_s, all_s, faults, gone, reported = json.loads(done.stdout)
    # one after the other they would take 20 s
    assert awake_s < 0.8
    assert 1 <= all_s < 5
    assert faults == [None] * 20
    assert len(stalling.peers) == 20
    assert gone == ["status UNAVAILABLE", "status 0"]
    *answered, gone_grpc, gone_http = reported
    assert [(kind, name, fault) for kind, name, _, fault in answered] == [
        ("GRPC", "stalls", "")
    ] * 20
    assert all(1000 <= took_ms < 5000 for _, _, took_ms, _ in answered)
    assert (gone_grpc[0], gone_grpc[3]) == ("GRPC", "status UNAVAILABLE")
    assert (gone_http[0], gone_http[3]) == ("POST", "status 0")
