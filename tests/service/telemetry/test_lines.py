"""Lines that cannot be written are dropped: a full disk, a closed pipe, a reader that sleeps."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.telemetry.lines import LineWriter
from tests.service.process import ROOT


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for fd in (reading, writing):
        with contextlib.suppress(OSError):
            os.close(fd)


def read_all(reading: int, writing: int) -> list[str]:
    """Everything in the pipe, which is closed for writing."""
    os.close(writing)
    with open(reading, closefd=False) as file:
        return file.read().splitlines()


def test_lines_keep_their_order_before_while_and_after(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1])
    writer.put("before")
    writer.start()
    for n in range(500):
        writer.put(str(n))
    writer.close()
    writer.put("after é \ud800")
    lines = read_all(*pipe)
    assert lines == ["before", *map(str, range(500)), r"after é \ud800"]
    assert writer.dropped == 0


def test_lines_of_many_threads_stay_whole(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        writer = LineWriter(file.fileno())
        writer.start()
        texts = [letter * 3000 for letter in "abcd"]
        threads = [
            threading.Thread(target=lambda text=text: [writer.put(text) for _ in range(50)])
            for text in texts
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        writer.close(30)
    assert sorted((tmp_path / "log").read_text().splitlines()) == sorted(texts * 50)


@pytest.mark.parametrize("threaded", [True, False])
def test_a_full_disk_costs_lines_only(threaded: bool) -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        writer = LineWriter(fd)
        if threaded:
            writer.start()
        for _ in range(10):
            writer.put("x")
        writer.close()
        assert writer.dropped == 10
    finally:
        os.close(fd)


def test_a_closed_pipe_costs_lines_only(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    writer = LineWriter(pipe[1])
    writer.put("x")
    writer.start()
    writer.put("y")
    writer.close()
    assert writer.dropped == 2


def test_a_sleeping_reader_stops_nobody(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1], most_lines=50)
    writer.start()
    returned = threading.Event()

    def fill() -> None:
        for _ in range(1000):  # 4 MB into a pipe of 64 KiB
            writer.put("x" * 4000)
        writer.close(0.2)
        writer.put("late")  # would block without a thread
        returned.set()

    threading.Thread(target=fill, daemon=True).start()
    (thread,) = [each for each in threading.enumerate() if each.name == "log-lines"]
    assert returned.wait(60), "a log line waited for its reader"
    assert writer.dropped > 900
    os.close(pipe[0])
    thread.join()  # before another test's pipe has this one's number


def test_a_pipe_that_does_not_block_is_waited_for(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.set_blocking(writing, False)
    writer = LineWriter(writing)
    got: list[bytes] = []

    def read_slowly() -> None:
        while data := os.read(reading, 65536):
            got.append(data)
            time.sleep(0.005)

    thread = threading.Thread(target=read_slowly)
    thread.start()
    for _ in range(100):
        writer.put("x" * 4000)
    os.close(writing)
    thread.join()
    assert b"".join(got) == (b"x" * 4000 + b"\n") * 100
    assert writer.dropped == 0


def test_after_a_torn_line_the_next_begins_its_own(tmp_path: Path) -> None:
    limited = """
import os, resource, signal, sys
from service.telemetry.lines import LineWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
writer = LineWriter(1)
writer.put("0123456789abcdef")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
writer.put("whole")
sys.exit(writer.dropped)
"""
    with (tmp_path / "log").open("wb") as file:
        run = subprocess.run([sys.executable, "-c", limited], cwd=ROOT, stdout=file, check=False)
    assert run.returncode == 1
    assert (tmp_path / "log").read_text() == "0123456789\nwhole\n"
