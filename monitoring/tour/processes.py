"""Programs that run for the length of a `with` block, and end with it whatever happens."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import httpx

from koine.errors import RequestError, ServiceUnavailableError

READY_WITHIN_S = 120.0
STOP_WITHIN_S = 20.0
PACKAGES = {
    "redis-server": "redis-server",
    "prometheus": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
}
"""By program, the Debian package that has it."""


def check_programs() -> None:
    """Raises `RequestError`, which names what to install."""
    missing = [name for name in PACKAGES if shutil.which(name) is None]
    if missing:
        packages = " ".join(PACKAGES[name] for name in missing)
        raise RequestError(f"not installed: {', '.join(missing)}; apt-get install {packages}")


def port(wanted: int = 0) -> int:
    """The wanted port of the loopback where it is free, else another."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Processes:
    """`start` them in the block; each writes its own log into `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> Processes:
        self._folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for _, process in reversed(self._running):
            _stop(process)

    def start(
        self,
        name: str,
        command: Sequence[str],
        settings: Mapping[str, str],
        ready: Callable[[], bool],
    ) -> None:
        """Returns when `ready`. Raises `ServiceUnavailableError` with the end of its log."""
        with self.log(name).open("wb") as log:
            process = subprocess.Popen(
                command,
                env={**_environment(), **settings},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._running.append((name, process))
        deadline = time.monotonic() + READY_WITHIN_S
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                lines = self.log(name).read_text(errors="replace").splitlines()[-15:]
                raise ServiceUnavailableError(
                    f"{name} did not start; {self.log(name)} ends:\n" + "\n".join(lines)
                )
            time.sleep(0.2)

    def once(self, name: str, command: Sequence[str]) -> None:
        """Runs one to its end. Raises `ServiceUnavailableError` with what it says."""
        done = subprocess.run(command, env=_environment(), capture_output=True, text=True)
        if done.returncode:
            raise ServiceUnavailableError(f"{name} failed: {done.stderr or done.stdout}")

    def log(self, name: str) -> Path:
        """What a program prints."""
        return self._folder / f"{name}.log"

    @property
    def pids(self) -> dict[str, int]:
        """By name."""
        return {name: process.pid for name, process in self._running}

    def ended(self) -> str | None:
        """The name of one that has ended by itself."""
        return next((name for name, one in self._running if one.poll() is not None), None)


def answers(url: str) -> Callable[[], bool]:
    """Whether a URL answers with 200."""

    def asked() -> bool:
        try:
            return httpx.get(url, timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    return asked


def listens(at: int) -> Callable[[], bool]:
    """Whether somebody listens on a port."""

    def asked() -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", at)) == 0

    return asked


def _environment() -> dict[str, str]:
    """Without settings of the caller's own service."""
    ours = ("KOINE_", "OTEL_", "PROMETHEUS_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
