"""Where checkpoints go besides the log, so that a rewritten log can be told; reads none back.

A sink that fails delays nobody: checkpoints wait, the newest thousand of them, and are sent with
the next one.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from koine.audit.checkpoints import Checkpoint, line_of, parse_checkpoint

_LOG = logging.getLogger(__name__)
_WAITING = 1000
REDIS_KEY = "koine:audit:checkpoints"


@runtime_checkable
class Sink(Protocol):
    """A place out of the reach of whoever can write the log's disk."""

    def publish(self, checkpoint: Checkpoint) -> None:
        """Keeps it. Raises `OSError` where it cannot be reached."""
        ...


class FileSink:
    """Appends to a file; a mount with write-once storage, or one that others hold."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def publish(self, checkpoint: Checkpoint) -> None:
        """Appends a line and waits for the disk."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line_of(checkpoint))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class StdoutSink:
    """Prints a line, which the cluster's log collector takes away."""

    def publish(self, checkpoint: Checkpoint) -> None:
        """Writes a line to standard output."""
        sys.stdout.buffer.write(line_of(checkpoint))
        sys.stdout.buffer.flush()


class RedisSink:
    """Appends to a stream of a Redis; convenient, and weaker: Redis forgets and can be written."""

    def __init__(self, url: str, key: str = REDIS_KEY, keep: int = 1_000_000) -> None:
        import redis

        client: Any = redis.Redis
        self._redis = client.from_url(url, socket_timeout=5, socket_connect_timeout=5)
        self._key, self._keep = key, keep

    def publish(self, checkpoint: Checkpoint) -> None:
        """Adds an entry with field `note`."""
        import redis

        try:
            self._redis.xadd(self._key, {"note": checkpoint.note}, maxlen=self._keep)
        except redis.RedisError as error:
            raise ConnectionError(f"Redis: {error}") from error


def read_redis(url: str, key: str = REDIS_KEY) -> list[Checkpoint]:
    """What `RedisSink` published, oldest first.

    Raises `OSError` where Redis cannot be asked, `AuditError` for what is no checkpoint.
    """
    import redis

    client: Any = redis.Redis
    try:
        with client.from_url(url, socket_timeout=5, socket_connect_timeout=5) as asked:
            found = asked.xrange(key)
    except (redis.RedisError, ValueError) as error:
        raise ConnectionError(f"Redis: {error}") from error
    return [parse_checkpoint(fields[b"note"].decode()) for _, fields in found]


class Publisher:
    """Sends checkpoints to sinks in a thread of its own."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._waiting = [(sink, deque[Checkpoint](maxlen=_WAITING)) for sink in sinks]
        self._wake = threading.Condition()
        self._closing, self._new = False, False
        self.failures = 0
        """Times that a sink could not be reached."""
        self._thread = threading.Thread(target=self._run, name="audit-publisher", daemon=True)
        self._thread.start()

    def send(self, checkpoint: Checkpoint) -> None:
        """Takes it for every sink, and returns at once."""
        with self._wake:
            for _, waiting in self._waiting:
                waiting.append(checkpoint)
            self._new = True
            self._wake.notify()

    def close(self, wait_s: float = 10.0) -> None:
        """Tries once more to send what waits, then ends."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(wait_s)

    def _run(self) -> None:
        closing = False
        while not closing:
            with self._wake:
                self._wake.wait_for(lambda: self._new or self._closing)
                closing, self._new = self._closing, False
            for sink, waiting in self._waiting:
                self._drain(sink, waiting)

    def _drain(self, sink: Sink, waiting: deque[Checkpoint]) -> None:
        while waiting:
            try:
                sink.publish(waiting[0])
            except OSError as error:
                self.failures += 1
                _LOG.warning("checkpoints wait for %s: %s", type(sink).__name__, error)
                return
            waiting.popleft()
