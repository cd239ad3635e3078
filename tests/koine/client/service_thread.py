"""A real service over the tiny artifact in a thread of this process, over HTTP and gRPC."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import uvicorn

from koine.artifact import Artifact
from koine.errors import KoineError
from service.core import Core
from service.routes import create_app
from service.settings import Settings
from tests.service.process import free_port


class Served(NamedTuple):
    """Where a service listens, and its inside."""

    http: str
    grpc: str
    core: Core


@contextmanager
def serving(artifact: Artifact, **settings: Any) -> Iterator[Served]:
    """A ready service with these settings, stopped at the end."""
    port, grpc_port = free_port(), free_port()
    own = {"cache_bytes": 0, **settings}  # the same thing again is to be encoded again
    known = Settings(
        artifact=str(artifact.path), provider="cpu", threads=1, grpc_port=grpc_port, **own
    )
    app = create_app(known)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, ws="none"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while not _ready(app):
            assert thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield Served(f"http://127.0.0.1:{port}", f"grpc://127.0.0.1:{grpc_port}", app.state.core)
    finally:
        server.should_exit = True
        thread.join(60)


def _ready(app: Any) -> bool:
    try:
        return bool(app.state.core.dictionaries.served)
    except (AttributeError, KoineError):
        return False
