"""Starts the service as its own process and waits until it is ready; imports nothing of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType

from koine.errors import RequestError, TrainingError

READY_WITHIN_S = 120.0
STOP_WITHIN_S = 20.0


class DemoServer:
    """`bentoml serve service.app:ConceptService` on loopback, for the length of a `with` block."""

    def __init__(self, artifact: Path, port: int, log: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._artifact, self._port, self._log = artifact, port, log

    def __enter__(self) -> DemoServer:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self._port))
            except OSError:
                raise RequestError(
                    f"port {self._port} is taken: stop what uses it, or give another `--port`"
                ) from None
        environment = os.environ | {
            "KOINE_ARTIFACT": str(self._artifact.resolve()),
            "BENTOML_DO_NOT_TRACK": "True",
            "KOINE_GRPC_PORT": os.environ.get("KOINE_GRPC_PORT", "0"),
        }
        bentoml = Path(sys.executable).with_name("bentoml")
        command = [str(bentoml), "serve", "service.app:ConceptService"]
        command += ["--host", "127.0.0.1", "--port", str(self._port)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def alive(self) -> bool:
        """Whether the server's process runs."""
        return self._process.poll() is None

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline:
            if not self.alive():
                break
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=2):
                    return
            except (urllib.error.URLError, TimeoutError, ConnectionError):
                time.sleep(0.25)
        tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])
        raise TrainingError(f"the service did not become ready; its log {self._log} ends:\n{tail}")

    def _stop(self) -> None:
        if not self.alive():
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
