"""`bentoml serve` as a process of its own, on loopback and a port of its own."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.service.conftest import wait_until_ready

ROOT = Path(__file__).parent.parent.parent
BENTOML = Path(sys.executable).with_name("bentoml")


def environment(home: Path, **settings: str) -> dict[str, str]:
    """This process's environment with another BentoML home and only these settings."""
    kept = {
        n: v for n, v in os.environ.items() if not n.startswith(("KOINE_", "OTEL_", "PROMETHEUS_"))
    }
    return kept | {
        "BENTOML_HOME": str(home),
        "BENTOML_DO_NOT_TRACK": "True",
        "OMP_NUM_THREADS": "1",
        "KOINE_GRPC_PORT": "0",
        "KOINE_CACHE_BYTES": "0",  # most tests send the same thing again to be encoded
        **settings,
    }


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A running server: its client, its process and its log."""

    def __init__(self, client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
        self.client, self.process, self._log = client, process, log

    @property
    def log(self) -> str:
        """What the server has printed so far."""
        return self._log.read_text(errors="replace")


@contextmanager
def bentoml_serve(
    home: Path,
    *,
    settings: Mapping[str, str],
    command: tuple[str, ...] = (str(BENTOML), "serve", "service.app:ConceptService"),
    folder: Path = ROOT,
    ready_within_s: float = 90,
    output: int | None = None,
    host: str = "127.0.0.1",
    tls: ssl.SSLContext | None = None,
) -> Iterator[Server]:
    """A ready server, which is stopped at the end; it prints into `output`, or its log.

    `tls` is how its client trusts it.
    """
    port = free_port()
    log = home / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--host", host, "--port", str(port)],
            cwd=folder,
            env=environment(home, **settings),
            stdout=out if output is None else output,
            stderr=out if output is None else output,
            start_new_session=True,
        )
    try:
        url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        with httpx.Client(base_url=url, timeout=30, verify=tls or True) as client:
            server = Server(client, process, log)
            wait_until_ready(_Patient(server), ready_within_s)
            yield server
    finally:
        _stop(process)


class _Patient:
    """A client to whom a server that does not listen yet is one that is not ready."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def get(self, path: str) -> httpx.Response:
        assert self._server.process.poll() is None, self._server.log
        try:
            return self._server.client.get(path)
        except httpx.TransportError as error:
            return httpx.Response(503, text=f"{error}; log:\n{self._server.log}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
