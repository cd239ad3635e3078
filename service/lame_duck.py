"""What SIGTERM begins: for a while the process is not ready, but answers, so that clients leave.

uvicorn's own handler of the signal closes idle connections at once, on which a request may be on
its way; here it runs at the end. Knows no endpoint's work and nothing of gRPC.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Generator
from functools import partial
from types import FrameType

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from service import metrics
from service.added_headers import Header, adding

LAST_REQUESTS_S = 0.2
"""For requests on connections that were made just before no more were taken."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

log = logging.getLogger(__name__)


class LameDuck:
    """Whether the process is about to stop. Signals are a process's, so that there is one."""

    def __init__(self) -> None:
        self.begun = False
        self.followers: set[Callable[[], None]] = set()
        """Called in the event loop when the phase begins."""
        self._phase: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def after_sigterm(self, seconds: float) -> Generator[None]:
        """Takes SIGTERM from uvicorn, which gets it after the phase.

        It gets it at once where it comes again, and for SIGINT, behind which somebody waits.
        Changes nothing with 0 seconds, or where the process is not uvicorn's.
        """
        server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
        if not seconds or not isinstance(server, uvicorn.Server):
            yield
            return
        loop = asyncio.get_running_loop()

        def on_signal(number: int, frame: FrameType | None) -> None:
            if server.should_exit:
                server.handle_exit(number, frame)
            elif self.begun or number == signal.SIGINT:
                server.handle_exit(signal.SIGTERM, frame)
            else:
                self.begun = True
                loop.call_soon_threadsafe(self._begin, server, seconds)

        own = {number: signal.signal(number, on_signal) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in own.items():
                signal.signal(number, handler)
            if self._phase is not None:
                self._phase.cancel()
            self.begun, self._phase = False, None

    def _begin(self, server: uvicorn.Server, seconds: float) -> None:
        log.info("stopping: not ready from now on; requests are taken for %g s more", seconds)
        metrics.READY.set(0)
        for follower in self.followers:
            follower()
        self._phase = asyncio.create_task(_end(server, seconds), name="lame-duck")


LAME_DUCK = LameDuck()


async def _end(server: uvicorn.Server, seconds: float) -> None:
    """Ends the phase: nobody new, the last requests, then what uvicorn does at SIGTERM."""
    try:
        await asyncio.sleep(seconds)
        taken = [each for listener in server.servers for each in _close(listener)]
        arriving = asyncio.gather(
            *(_serve(server, connection) for connection in taken), return_exceptions=True
        )
        await asyncio.sleep(LAST_REQUESTS_S)
        arriving.cancel()
    finally:
        if not server.should_exit:
            server.handle_exit(signal.SIGTERM, None)


def _close(listener: asyncio.Server) -> list[socket.socket]:
    """What the kernel has connected and nobody accepted: closing alone would reset it."""
    queues = [socket.socket(fileno=os.dup(each.fileno())) for each in listener.sockets]
    listener.close()
    connections: list[socket.socket] = []
    for queue in queues:
        with queue, contextlib.suppress(OSError):
            queue.setblocking(False)
            while True:
                connections.append(queue.accept()[0])
    return connections


async def _serve(server: uvicorn.Server, connection: socket.socket) -> None:
    connection.setblocking(False)
    protocol = partial(
        server.config.http_protocol_class,
        config=server.config,
        server_state=server.server_state,
        app_state=server.lifespan.state,
    )
    loop = asyncio.get_running_loop()
    await loop.connect_accepted_socket(protocol, connection, ssl=server.config.ssl)


class LeaveInOrder:
    """ASGI middleware: in the phase each answer ends its connection."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            send = adding(_last, send)
        await self._app(scope, receive, send)


def _last(own: list[Header]) -> list[Header]:
    return [(b"connection", b"close")] if LAME_DUCK.begun else []
