"""The gRPC server: its port, services, health, reflection and end; knows no message."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncGenerator, Sequence

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from koine.errors import SettingsError
from service.core import Core
from service.rpc import concepts, inference
from service.rpc.edge import Authorize, Edge
from service.rpc.health import Health
from service.settings import PREFIX, Settings

LAST_WORDS_S = 0.25
"""For answers on their way out, and for watchers, who never end by themselves."""

log = logging.getLogger(__name__)


class RpcServer:
    """`start` it in the core's event loop, `stop` it before the core is closed."""

    def __init__(
        self,
        core: Core,
        *,
        authorize: Authorize | None = None,
        credentials: grpc.ServerCredentials | None = None,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    ) -> None:
        """`authorize` is called before a request is read; None lets everyone in. Health and
        reflection are open to all."""
        self._core, self._credentials = core, credentials
        self._edge = Edge(core, authorize)
        services = [concepts.SERVICE, inference.SERVICE]
        self._health = Health(core, services)
        self._server = grpc.aio.server(
            interceptors=tuple(interceptors), options=_options(core.settings)
        )
        self._server.add_generic_rpc_handlers(
            (concepts.handlers(core, self._edge), inference.handlers(core, self._edge))
        )
        health_pb2_grpc.add_HealthServicer_to_server(  # pyright: ignore[reportUnknownMemberType]
            self._health, self._server
        )
        names = [*services, health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(names, self._server)

    async def start(self) -> None:
        """Listens. Raises `SettingsError` where it cannot."""
        settings = self._core.settings
        address = _address(settings)
        try:
            if self._credentials is None:
                self._server.add_insecure_port(address)
            else:
                self._server.add_secure_port(address, self._credentials)
        except RuntimeError:
            raise _taken(settings) from None
        self._health.start()
        await self._server.start()
        secured = "" if self._credentials is None else ", TLS"
        log.info("gRPC on %s%s", address, secured)

    async def stop(self) -> None:
        """Refuses new calls, finishes those under way, then closes every connection."""
        drain_s = self._core.settings.drain_s
        deadline = time.monotonic() + drain_s
        await self._health.stop()
        self._edge.stopping.set()
        stopping = asyncio.create_task(self._server.stop(drain_s))
        while not stopping.done() and self._edge.under_way and time.monotonic() < deadline:
            await asyncio.sleep(0.005)
        await self._server.stop(LAST_WORDS_S)
        await stopping


@contextlib.asynccontextmanager
async def rpc_serving(
    core: Core,
    *,
    authorize: Authorize | None = None,
    credentials: grpc.ServerCredentials | None = None,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
) -> AsyncGenerator[None]:
    """The server for the length of a `with` block, where the settings have a port for it."""
    if not core.settings.grpc_port:
        yield
        return
    server = RpcServer(
        core, authorize=authorize, credentials=credentials, interceptors=interceptors
    )
    await server.start()
    try:
        yield
    finally:
        await server.stop()


def check_port(settings: Settings) -> None:
    """Raises `SettingsError` where another server has the port; for the workers' parent.

    Workers share theirs, so that they would not notice another server that does the same.
    """
    if not settings.grpc_port:
        return
    family = socket.AF_INET6 if ":" in settings.grpc_host else socket.AF_INET
    try:
        with socket.create_server((settings.grpc_host, settings.grpc_port), family=family):
            pass
    except OSError as error:
        raise _taken(settings, error.strerror) from None


def _options(settings: Settings) -> list[tuple[str, int]]:
    most = settings.grpc_max_message_bytes or min(settings.max_body_bytes, 2**31 - 1)
    return [
        ("grpc.max_receive_message_length", most),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", settings.grpc_max_streams),
        ("grpc.so_reuseport", int(settings.workers > 1)),
        # clients behind load balancers ping more often than gRPC's default of 5 minutes allows
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


def _address(settings: Settings) -> str:
    host = f"[{settings.grpc_host}]" if ":" in settings.grpc_host else settings.grpc_host
    return f"{host}:{settings.grpc_port}"


def _taken(settings: Settings, reason: str | None = None) -> SettingsError:
    why = "is in use or not this machine's" if reason is None else f"cannot be had ({reason})"
    return SettingsError(
        f"gRPC's address {_address(settings)} {why}; set {PREFIX}GRPC_PORT to a free port, or to 0 "
        f"for no gRPC, and {PREFIX}GRPC_HOST to an address of this machine"
    )
