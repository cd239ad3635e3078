"""How a user sends a body; every transport of the service gets a class here, HTTP is one."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from locust.contrib.fasthttp import FastHttpSession

from load_tests.bodies import Body, fault

PATH = "/v1/encode"


class Sent(NamedTuple):
    """What came of a body."""

    fault: str | None
    bytes: int


class Sender(Protocol):
    """Sends one body, waits, reports it to Locust as its own request, and judges the answer."""

    def send(self, body: Body, name: str) -> Sent: ...


class HttpSender:
    """`POST /v1/encode` by Locust's fast client."""

    def __init__(self, session: FastHttpSession) -> None:
        self._session = session

    def send(self, body: Body, name: str) -> Sent:
        """The fault is what Locust reports too."""
        headers = {"Content-Type": body.content_type}
        with self._session.post(
            PATH,
            data=body.data,  # pyright: ignore[reportArgumentType] # bytes are sent as they are
            headers=headers,
            name=name,
            catch_response=True,
        ) as response:
            answer = response.content or b""
            found = fault(body, response.status_code, answer)
            if found is None:
                response.success()
            else:
                response.failure(found)
            return Sent(found, len(answer))
