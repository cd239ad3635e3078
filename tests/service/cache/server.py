"""A real Redis that a test starts, pauses, stops and looks into."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

BINARY = shutil.which("redis-server")


class RedisServer:
    """`redis-server` on the loopback, on one port for as long as this lives; saves nothing."""

    def __init__(self, folder: Path) -> None:
        if BINARY is None:
            pytest.skip("redis-server is not installed; `make system-packages` installs it")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False

    @property
    def url(self) -> str:
        """What clients are given."""
        return f"redis://127.0.0.1:{self.port}"

    def client(self, password: str | None = None) -> Redis:
        """A client of the test's own."""
        return Redis(port=self.port, password=password, socket_timeout=10)

    def start(self, *options: str, password: str | None = None) -> None:
        """Returns when it answers."""
        assert BINARY is not None
        if password is not None:
            options = (*options, "--requirepass", password)
        self._process = subprocess.Popen(
            [BINARY, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", *options],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                with self.client(password) as client:
                    client.ping()
                return
            except RedisError:
                assert self._process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def pause(self) -> None:
        """It keeps its connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        """It answers again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        self._paused = False

    def stop(self) -> None:
        """Kills it, with everything that it kept."""
        if self._process is not None:
            if self._paused:
                self.resume()
            self._process.kill()
            self._process.wait(30)
            self._process = None
