"""grpc.health.v1, answered by looking at the core; knows no port.

The health package's own servicer forgets its watchers when one of several leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from koine.errors import NotReadyError
from service.core import Core
from service.lame_duck import LAME_DUCK
from service.rpc.status import Context

LOOK_EVERY_S = 0.2
_STATES = health_pb2.HealthCheckResponse


def ready(core: Core) -> bool:
    """Whether requests should be sent: loaded, every loop beats, and not about to stop."""
    try:
        core.check_ready()
    except NotReadyError:
        return False
    return core.alive


class Health(health_pb2_grpc.HealthServicer):
    """Serving or not: the server ("") and each service by name, all alike."""

    def __init__(self, core: Core, services: Sequence[str]) -> None:
        self._core = core
        self._services = frozenset(("", *services))
        self._serving = self._stopped = False
        self._changed = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Follows the core from now on."""
        self._refresh()
        LAME_DUCK.followers.add(self._refresh)
        self._looking = asyncio.create_task(self._look(), name="grpc-health")

    async def stop(self) -> None:
        """Not serving from now on, for good."""
        LAME_DUCK.followers.discard(self._refresh)
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        self._stopped = True
        self._refresh()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> Any:
        """The state now; NOT_FOUND for a service that is not here."""
        if request.service not in self._services:
            detail = f"{request.service[:64]!r} is no service of this server"
            await context.abort(grpc.StatusCode.NOT_FOUND, detail)
        self._refresh()
        return _STATES(status=self._state(request.service))

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> AsyncGenerator[Any]:
        """The state now and at every change."""
        self._refresh()
        told = None
        while True:
            changed, state = self._changed, self._state(request.service)
            if state != told:
                yield _STATES(status=state)
                told = state
            await changed.wait()

    def _state(self, service: str) -> Any:
        if service not in self._services:
            return _STATES.SERVICE_UNKNOWN
        return _STATES.SERVING if self._serving else _STATES.NOT_SERVING

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self._refresh()

    def _refresh(self) -> None:
        serving = not self._stopped and ready(self._core)
        if serving != self._serving:
            self._serving = serving
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()
