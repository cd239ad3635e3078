"""Finished lines to standard output; what cannot be written is dropped and counted.

While requests are served a thread of its own writes: a reader that has stopped reading, or a full
disk, costs lines and never a request. Before and after, lines are written at once. Knows no
format.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import threading
from collections.abc import Callable, Generator
from queue import Empty, SimpleQueue

STDOUT = 1
MOST_LINES = 10_000
"""Lines that may wait for a reader; more are dropped."""
CLOSE_S = 1.0
_CHUNK = 4096
"""Bytes that Linux writes into a pipe in one piece: lines of several workers stay whole."""
_RETRY_MS = 1000
"""How long a descriptor that does not block may take nothing."""


class LineWriter:
    """Writes lines to a file descriptor. `start` its thread to never block, `close` it."""

    def __init__(self, fd: int = STDOUT, *, most_lines: int = MOST_LINES) -> None:
        self._fd, self._most = fd, most_lines
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._torn = False
        self._stalled = False
        self._dropped = 0
        self._told = 0
        self.notice: Callable[[int], str] | None = None
        """The line that tells how many were dropped, once lines can be written again."""

    @property
    def dropped(self) -> int:
        """Lines that were never written."""
        return self._dropped

    def put(self, line: str) -> None:
        """Writes the line, or leaves it to the thread. Never raises; blocks only without one."""
        data = (line + "\n").encode("utf-8", "backslashreplace")
        if self._stalled or self._queue.qsize() >= self._most:
            self._dropped += 1
        elif self._thread is not None:
            self._queue.put(data)
        else:
            self._write(data, 1)

    def start(self) -> None:
        """From here on `put` never blocks."""
        if self._thread is None:
            # a daemon: a reader that has stopped reading must not keep the process alive
            self._thread = threading.Thread(target=self._run, name="log-lines", daemon=True)
            self._thread.start()

    def close(self, within_s: float = CLOSE_S) -> None:
        """Writes what is left, for this long at most; from here on `put` writes at once."""
        thread = self._thread
        if thread is None:
            return
        self._queue.put(None)
        thread.join(within_s)
        self._stalled = thread.is_alive()  # before `put` may write itself, and block
        self._thread = None
        while not self._stalled and (data := self._next()):  # put while the thread was ending
            self._write(data, 1)

    def _run(self) -> None:
        data = self._queue.get()
        while data is not None:
            chunk, count = [data], 1
            size = len(data)
            data = self._next()
            while data and size + len(data) <= _CHUNK:
                chunk.append(data)
                size, count = size + len(data), count + 1
                data = self._next()
            self._write(b"".join(chunk), count)
            if data == b"":
                data = self._queue.get()

    def _next(self) -> bytes | None:
        """The next line, None at the end, empty where there is none yet."""
        try:
            return self._queue.get_nowait()
        except Empty:
            return b""

    def _write(self, data: bytes, count: int) -> None:
        with self._lock:
            if not self._write_all(data):
                self._dropped += count
            elif (lost := self._dropped - self._told) and self.notice is not None:
                notice = (self.notice(lost) + "\n").encode()
                self._told += lost if self._write_all(notice) else 0

    def _write_all(self, data: bytes) -> bool:
        """Whether it could be written."""
        left = data = b"\n" + data if self._torn else data
        try:
            while left:
                left = left[self._write_some(left) :]
        except OSError:  # disk full, pipe closed: there is nowhere to say so
            self._torn = self._torn or len(left) < len(data)
            return False
        self._torn = False
        return True

    def _write_some(self, data: bytes) -> int:
        while True:
            try:
                return os.write(self._fd, data)
            except BlockingIOError:  # somebody made the descriptor non-blocking
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                if not poll.poll(_RETRY_MS):
                    raise


WRITER = LineWriter()
"""This process's standard output."""
atexit.register(WRITER.close)


@contextlib.contextmanager
def never_blocking() -> Generator[None]:
    """While this lasts no log line waits for whoever reads standard output."""
    WRITER.start()
    try:
        yield
    finally:
        WRITER.close()
