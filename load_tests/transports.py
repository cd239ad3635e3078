"""How a user sends a message; every transport of the service has a class here."""

from __future__ import annotations

import time
from typing import NamedTuple, Protocol

import grpc
from grpc.experimental.gevent import init_gevent
from locust.contrib.fasthttp import FastHttpSession
from locust.env import Environment
from locust.exception import CatchResponseError

from benchmarks.serving.clients import ENCODE, TIMEOUT_S
from load_tests.wires import WIRES, Message, fault

PATH = "/v1/encode"
CHANNEL = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    # as our own client; gRPC's 120 s would fail requests long after a service is back
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # else all users of a process share one connection, which one worker of the service answers
    ("grpc.use_local_subchannel_pool", 1),
)
# once, when Locust has patched the threads (by its import) and before there is a channel:
# otherwise a call stops all users of the process until it is answered
init_gevent()


class Sent(NamedTuple):
    """What came of a message."""

    fault: str | None
    bytes: int


class Sender(Protocol):
    """Sends one message, waits, reports it to Locust as its own request, and judges the answer."""

    def send(self, message: Message, name: str) -> Sent: ...


class HttpSender:
    """`POST /v1/encode` by Locust's fast client."""

    def __init__(self, session: FastHttpSession) -> None:
        self._session = session

    def send(self, message: Message, name: str) -> Sent:
        """The fault is what Locust reports too."""
        headers = {"Content-Type": message.content_type}
        with self._session.post(
            PATH,
            data=message.data,  # pyright: ignore[reportArgumentType] # bytes are sent as they are
            headers=headers,
            name=name,
            catch_response=True,
        ) as response:
            answer = response.content or b""
            if response.status_code == 200:
                found = fault(message, WIRES["http"], answer)
            else:
                found = f"status {response.status_code}"
            if found is None:
                response.success()
            else:
                response.failure(found)
            return Sent(found, len(answer))


class GrpcSender:
    """`Encode` of `koine.v1.ConceptService`, each user over a connection of its own as in HTTP."""

    def __init__(self, environment: Environment, target: str) -> None:
        self._report = environment.events.request.fire
        self._channel = grpc.insecure_channel(target, CHANNEL)
        self._encode = self._channel.unary_unary(ENCODE)

    def send(self, message: Message, name: str) -> Sent:
        """The fault is what Locust reports too."""
        answer, status = b"", None
        begun = time.perf_counter()
        try:
            answer = self._encode(message.data, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            status = error.code().name  # pyright: ignore[reportAttributeAccessIssue]
        took_s = time.perf_counter() - begun
        found = f"status {status}" if status else fault(message, WIRES["grpc"], answer)
        self._report(
            request_type="GRPC",
            name=name,
            response_time=took_s * 1000,
            response_length=len(answer),
            exception=None if found is None else CatchResponseError(found),
            context={},
        )
        return Sent(found, len(answer))
