"""Carries calls over gRPC, one try each; decides no retry."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

import koine
from koine import errors
from koine.client.calls import Call, GetReady
from koine.client.config import Config, Tls
from koine.client.errors import Failure
from koine.client.wire_proto import ProtoWire, refusal
from koine.errors import ClientError
from koine.proto.koine.v1 import concepts_pb2_grpc


class _Grpc:
    """What both forms share: everything but the channel."""

    def __init__(self, config: Config) -> None:
        self.wire = ProtoWire()
        self._address = config.target.address
        self._metadata = tuple(config.headers.items())
        self._credentials = credentials(config.tls) if config.target.encrypted else None
        self._options = channel_options(config)

    def _plan(self, stubs: Any, health: Any, call: Call) -> tuple[Any, Any]:
        if isinstance(call, GetReady):
            return health.Check, health_pb2.HealthCheckRequest(service="")
        name, message = self.wire.request(call)
        return getattr(stubs, name), message

    def _read(self, call: Call, message: Any) -> Any:
        if not isinstance(call, GetReady):
            return self.wire.read(call, message)
        if message.status == health_pb2.HealthCheckResponse.SERVING:
            return True
        return Failure(errors.NotReadyError("the service is not ready; ask again"), retry=True)

    def _failure(self, error: Any) -> Failure:
        trailers = {
            name: value for name, value in error.trailing_metadata() or () if isinstance(value, str)
        }
        code, details = error.code().name, error.details() or "no reason is given"
        return refusal(code, f"{self._address}: {details}", trailers)


class SyncGrpc(_Grpc):
    """One channel for any number of threads."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if self._credentials is None:
            self._channel = grpc.insecure_channel(self._address, self._options)
        else:
            self._channel = grpc.secure_channel(self._address, self._credentials, self._options)
        self._stubs = concepts_pb2_grpc.ConceptServiceStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)

    def send(self, call: Call, timeout_s: float) -> Any:
        """The call's result, or a `Failure`."""
        method, message = self._plan(self._stubs, self._health, call)
        try:
            answer = method(message, timeout=timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            return self._failure(error)
        except ValueError as error:  # what grpc raises for a channel closed meanwhile
            return Failure(ClientError(f"the channel cannot be used: {error}"))
        return self._read(call, answer)

    def close(self) -> None:
        """Ends what is under way and closes the channel."""
        self._channel.close()


class AsyncGrpc(_Grpc):
    """One channel for one event loop."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._channel: grpc.aio.Channel | None = None
        self._stubs: Any = None
        self._health: Any = None

    async def send(self, call: Call, timeout_s: float) -> Any:
        """The call's result, or a `Failure`."""
        self._open()
        method, message = self._plan(self._stubs, self._health, call)
        try:
            answer = await method(message, timeout=timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            return self._failure(error)
        except grpc.aio.UsageError as error:
            return Failure(ClientError(f"the channel cannot be used: {error}"))
        return self._read(call, answer)

    def _open(self) -> None:
        # not before there is an event loop, which the channel belongs to
        if self._channel is not None:
            return
        asyncio.get_running_loop()
        if self._credentials is None:
            channel = grpc.aio.insecure_channel(self._address, self._options)
        else:
            channel = grpc.aio.secure_channel(self._address, self._credentials, self._options)
        self._channel = channel
        self._stubs = concepts_pb2_grpc.ConceptServiceStub(channel)
        self._health = health_pb2_grpc.HealthStub(channel)

    async def close(self) -> None:
        """Ends what is under way and closes the channel."""
        if self._channel is not None:
            await self._channel.close()


def channel_options(config: Config) -> Sequence[tuple[str, Any]]:
    """How channels behave: no limits but the service's, no retries but our own."""
    options: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.enable_retries", 0),
        ("grpc.primary_user_agent", f"koine-client/{koine.__version__}"),
        # a connection that a firewall has forgotten is found out; servers refuse more often
        ("grpc.keepalive_time_ms", 300_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 5_000),
    ]
    if config.target.is_loopback:
        # a proxy from the environment must not see what stays on this machine
        options.append(("grpc.enable_http_proxy", 0))
    return options


def credentials(tls: Tls) -> grpc.ChannelCredentials:
    """Whom to trust: the public authorities, or those in `ca` alone. Raises `ClientError`."""

    def read(path: Path | None) -> bytes | None:
        return None if path is None else path.read_bytes()

    try:
        return grpc.ssl_channel_credentials(read(tls.ca), read(tls.key), read(tls.cert))
    except OSError as error:
        raise ClientError(
            f"a TLS file cannot be read: {error}; give the paths of PEM files"
        ) from error
