"""One service for all tests of the client, and the same calls on every kind of client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from koine.artifact import Artifact
from koine.client import AsyncClient, Client
from koine.encoder import ConceptEncoder
from tests.koine.client.service_thread import Served, serving

Run = Callable[..., Any]


@pytest.fixture(scope="session")
def served(tiny_artifact: Artifact) -> Iterator[Served]:
    """A ready service that takes 32 items at a time."""
    with serving(tiny_artifact, max_items=32) as served:
        yield served


@pytest.fixture(scope="session")
def encoder(tiny_artifact: Artifact) -> ConceptEncoder:
    """The same artifact, here."""
    return ConceptEncoder(tiny_artifact, providers=["CPUExecutionProvider"], threads=1)


def call_sync(url: str, method: str, *args: Any, client: dict[str, Any], **more: Any) -> Any:
    """One call of a synchronous client."""
    with Client(url, **client) as opened:
        result = getattr(opened, method)(*args, **more)
        return list(result) if hasattr(result, "__next__") else result


def call_async(url: str, method: str, *args: Any, client: dict[str, Any], **more: Any) -> Any:
    """The same of an asynchronous one."""

    async def main() -> Any:
        async with AsyncClient(url, **client) as opened:
            result = getattr(opened, method)(*args, **more)
            if isinstance(result, Awaitable):
                return await result
            return [part async for part in result]

    return asyncio.run(main())


KINDS = {"sync": call_sync, "async": call_async}


@pytest.fixture(params=KINDS)
def call(request: pytest.FixtureRequest) -> Run:
    """`call(url, method, *args, client={...}, **options)`, synchronous and asynchronous."""
    return KINDS[request.param]


@pytest.fixture(params=[(kind, wire) for wire in ("http", "grpc") for kind in KINDS], ids="-".join)
def ask(request: pytest.FixtureRequest, served: Served) -> Run:
    """`ask(method, *args, client={...}, **options)` of the service, over every transport."""
    kind, wire = request.param

    def ask(method: str, *args: Any, client: dict[str, Any] | None = None, **more: Any) -> Any:
        url = served.http if wire == "http" else served.grpc
        return KINDS[kind](url, method, *args, client=client or {}, **more)

    return ask
