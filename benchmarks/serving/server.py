"""A server as a process of its own, on a core of its own; sends it nothing but probes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.serving.cores import SERVER_CORE, on_core

ROOT = Path(__file__).parents[2]
READY_WITHIN_S = 180.0
STOP_WITHIN_S = 40.0
OURS = "service.app:ConceptService"


class ServerError(RuntimeError):
    """A server that does not start, or does not do what a measurement needs."""


class Server:
    """A running server."""

    def __init__(
        self, process: subprocess.Popen[bytes], port: int, log: Path, grpc_port: int = 0
    ) -> None:
        """`grpc_port`: 0 where it serves no gRPC."""
        self.process, self.port, self._log = process, port, log
        self.url = f"http://127.0.0.1:{port}"
        self.grpc_target = f"127.0.0.1:{grpc_port}"
        self.ready_after_s = 0.0

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process.poll() is None

    @property
    def log(self) -> str:
        """The end of what it has printed."""
        return self._log.read_text(errors="replace")[-2000:] if self._log.is_file() else ""

    @property
    def workers(self) -> list[psutil.Process]:
        """Processes that serve: those that the first one started and that load the artifact."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if not _is_helper(child)]

    @property
    def rss(self) -> int:
        """Bytes resident in all its processes."""
        total = 0
        for one in [psutil.Process(self.process.pid), *self.workers]:
            try:
                total += one.memory_info().rss
            except psutil.NoSuchProcess:  # ended meanwhile
                continue
        return total

    def get(self, path: str) -> str:
        """The text at `path`. Raises `ServerError` for anything but 200."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                return answer.read().decode()
        except (urllib.error.URLError, TimeoutError, ConnectionError, OSError) as error:
            raise ServerError(f"{path} of {self.url} did not answer: {error}") from error

    def metrics(self) -> dict[str, float]:
        """Every sample of `/metrics` by its name and labels."""
        lines = [line for line in self.get("/metrics").splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    def wait_until(self, path: str, within_s: float = READY_WITHIN_S) -> None:
        """Returns when `path` is 200. Raises `ServerError`, with the log's end."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline and self.alive:
            try:
                self.get(path)
                return
            except ServerError:
                time.sleep(0.02)
        what = "did not become ready" if self.alive else "ended"
        raise ServerError(f"the server {what}; its log ends:\n{self.log}")

    def wait_for_workers(self, count: int, within_s: float = READY_WITHIN_S) -> None:
        """Returns when that many are ready. Raises `ServerError`."""
        deadline = time.monotonic() + within_s
        while self.metrics().get("koine_ready") != count:
            if time.monotonic() > deadline:
                raise ServerError(f"{count} workers did not become ready:\n{self.log}")
            time.sleep(0.1)

    def stop(self) -> int | None:
        """Asks it to end, then makes it; its exit status, None where it had to be killed."""
        if self.alive:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            return None


def _is_helper(process: psutil.Process) -> bool:
    try:
        line = " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return True
    return "resource_tracker" in line or "semaphore_tracker" in line


@contextmanager
def started(
    command: Sequence[str],
    *,
    settings: Mapping[str, str],
    core: int | None = SERVER_CORE,
    ready: str = "/readyz",
    folder: Path = ROOT,
    log: Path | None = None,
) -> Iterator[Server]:
    """A ready server, stopped at the end; `{port}` in the command is a free port.

    `core`: the only core that it may use. `log`: where its output goes. Raises `ServerError`.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        port, out = free_port(), log or Path(home) / "server.log"
        begun = time.perf_counter()
        with out.open("wb") as written, on_core(core):
            process = subprocess.Popen(
                [part.replace("{port}", str(port)) for part in command],
                cwd=folder,
                env=environment(Path(home), settings),
                stdout=written,
                stderr=written,
                start_new_session=True,
            )
        server = Server(process, port, out, int(settings.get("KOINE_GRPC_PORT", "0")))
        try:
            server.wait_until(ready)
            server.ready_after_s = time.perf_counter() - begun
            yield server
        finally:
            server.stop()


@contextmanager
def serving(
    artifact: Path,
    *,
    workers: int = 1,
    core: int | None = SERVER_CORE,
    log: Path | None = None,
    grpc: bool = False,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Koine with this artifact, one thread for each graph, every worker ready."""
    given = {
        "KOINE_ARTIFACT": str(artifact),
        "KOINE_PROVIDER": "cpu",
        "KOINE_THREADS": "1",
        "KOINE_DECODE_THREADS": "1",
        "KOINE_WORKERS": str(workers),
        "KOINE_GRPC_PORT": str(free_port() if grpc else 0),
        **(settings or {}),
    }
    with started(bentoml_serve(OURS), settings=given, core=core, log=log) as server:
        server.wait_for_workers(workers)
        yield server


def bentoml_serve(target: str) -> list[str]:
    """The command that serves a BentoML service."""
    bentoml = str(Path(sys.executable).with_name("bentoml"))
    return [bentoml, "serve", target, "--host", "127.0.0.1", "--port", "{port}"]


def environment(home: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without settings of its own, with these."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("KOINE_", "PROMETHEUS_"))}
    ours = {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True", "OMP_WAIT_POLICY": "passive"}
    # requests repeat: a cache would answer them
    measured = {"KOINE_CACHE_BYTES": "0", "OMP_NUM_THREADS": "1"}
    return {**kept, **ours, **measured, **settings}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
