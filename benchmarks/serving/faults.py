"""What goes wrong in `chaos.py`, fault by fault; counts and judges nothing."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.serving.artifacts import Skipped, built
from benchmarks.serving.server import Server, ServerError, free_port
from service.settings import Settings

IDLE_CONNECTIONS = 1000
SLOW_CLIENTS = 50


@dataclass
class Setting:
    """What a fault needs around the server."""

    artifact: Path
    settings: dict[str, str] = field(default_factory=dict)
    log: Path | None = None
    redis: subprocess.Popen[bytes] | None = None
    redis_port: int = 0
    stack: ExitStack = field(default_factory=ExitStack)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong under load."""

    name: str
    prepare: Callable[[ExitStack], Setting]
    strike: Callable[[Server, Setting], None]
    """Runs in a thread of its own beside the load, and returns when the fault is over."""
    workers: int = 1
    breaks: bool = False
    """Whether connections may break, so that clients send again what was never answered."""
    ends: bool = False
    """Whether the server is gone afterwards."""


def _plain(stack: ExitStack) -> Setting:
    return Setting(built("small"))


def _kill_worker(server: Server, setting: Setting) -> None:
    """Twice: the second time it is one that has come back."""
    for _ in range(2):
        victim = max(server.workers, key=lambda worker: worker.create_time())
        victim.kill()
        psutil.wait_procs([victim], timeout=10)
        server.wait_for_workers(2, within_s=60)


def _terminate(server: Server, setting: Setting) -> None:
    server.process.send_signal(signal.SIGTERM)
    status = server.process.wait(60)
    if status != 0:
        raise ServerError(f"the server ended with {status} after SIGTERM")


def _replaceable(stack: ExitStack) -> Setting:
    """A copy, since its content is replaced."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    shutil.copytree(built("small"), folder / "artifact")
    return Setting(folder / "artifact", settings={"KOINE_RELOAD_S": "0.5"})


def _reload(server: Server, setting: Setting) -> None:
    """There and back, each time by two renames, as `export` does it."""
    for name in ("small-next", "small"):
        new, old = setting.artifact.with_name("new"), setting.artifact.with_name("old")
        shutil.copytree(built(name), new)
        setting.artifact.rename(old)
        new.rename(setting.artifact)
        shutil.rmtree(old)
        wanted = 1 if name == "small-next" else 2
        _wait_for_metric(server, 'koine_reloads_total{outcome="ok"}', wanted)


def _wait_for_metric(server: Server, name: str, value: float, within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while server.metrics().get(name) != value:
        if time.monotonic() > deadline:
            raise ServerError(f"{name} is not {value} after {within_s} s: {server.metrics()}")
        time.sleep(0.1)


def _idle_connections(server: Server, setting: Setting) -> None:
    with ExitStack() as stack:
        for _ in range(IDLE_CONNECTIONS):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
        time.sleep(4)


def _slow_clients(server: Server, setting: Setting) -> None:
    """Each sends a request's head and body at one byte a second."""
    message = b"POST /v1/encode HTTP/1.1\r\nHost: slow\r\nContent-Length: 100000\r\n\r\n{"
    with ExitStack() as stack:
        slow = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
            for _ in range(SLOW_CLIENTS)
        ]
        for number, one in enumerate(slow):  # half are within their body already
            one.sendall(message[: len(message) if number % 2 else 10])
        for _ in range(5):
            for one in slow:
                one.sendall(b" ")
            time.sleep(1)


def _full_disk(stack: ExitStack) -> Setting:
    full = Path("/dev/full")
    if not full.exists():
        raise Skipped("this system has no /dev/full, whose writes fail as on a full disk")
    return Setting(built("small"), log=full)


def _log_much(server: Server, setting: Setting) -> None:
    """Makes the service want to log: a worker is killed and comes back, which is logged."""
    _kill_worker(server, setting)


def _with_redis(stack: ExitStack) -> Setting:
    if "redis_url" not in Settings.model_fields:
        raise Skipped("the service has no setting KOINE_REDIS_URL yet")
    binary = shutil.which("redis-server")
    if binary is None:
        raise Skipped("no redis-server: install Debian's package of that name")
    port = free_port()
    setting = Setting(built("small"), {"KOINE_REDIS_URL": f"redis://127.0.0.1:{port}/0"})
    setting.redis_port = port
    setting.redis = _redis(port)
    stack.callback(lambda: setting.redis is not None and _end(setting.redis))
    return setting


def _redis(port: int) -> subprocess.Popen[bytes]:
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return process
    _end(process)
    raise Skipped("redis-server did not start")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.kill()
    process.wait(10)


def _disturb_redis(server: Server, setting: Setting) -> None:
    """Paused, so that it accepts and never answers; then gone; then back and empty."""
    assert setting.redis is not None
    setting.redis.send_signal(signal.SIGSTOP)
    time.sleep(3)
    setting.redis.send_signal(signal.SIGCONT)
    _end(setting.redis)
    time.sleep(2)
    setting.redis = _redis(setting.redis_port)


FAULTS = (
    Fault(name="kill_worker", prepare=_plain, strike=_kill_worker, workers=2, breaks=True),
    Fault(name="sigterm", prepare=_plain, strike=_terminate, breaks=True, ends=True),
    Fault(name="hot_reload", prepare=_replaceable, strike=_reload),
    Fault(name="idle_connections", prepare=_plain, strike=_idle_connections),
    Fault(name="slow_clients", prepare=_plain, strike=_slow_clients),
    Fault(name="full_disk", prepare=_full_disk, strike=_log_much, workers=2, breaks=True),
    Fault(name="redis", prepare=_with_redis, strike=_disturb_redis),
)
BY_NAME: Mapping[str, Fault] = {fault.name: fault for fault in FAULTS}
