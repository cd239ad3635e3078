"""The service in process, on the tiny artifact."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from starlette.testclient import TestClient

from koine.artifact import Artifact
from service.routes import create_app
from service.settings import Settings

Start = Callable[..., Any]


@contextmanager
def serving(artifact: Artifact, **settings: Any) -> Iterator[TestClient]:
    """A client of a ready service with these settings."""
    own = {"cache_bytes": 0, **settings}  # most tests send the same thing again to be encoded
    app = create_app(Settings(artifact=str(artifact.path), provider="cpu", threads=1, **own))
    with TestClient(app, raise_server_exceptions=False) as client:
        wait_until_ready(client)
        yield client


def wait_until_ready(client: Any, seconds: float = 60) -> None:
    """Returns when `/readyz` is 200; fails with what it says otherwise."""
    deadline = time.monotonic() + seconds
    while (answer := client.get("/readyz")).status_code != 200:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.02)


@pytest.fixture(autouse=True, scope="session")
def no_settings_from_outside() -> None:
    """A developer's own `KOINE_*` variables must not change what is tested."""
    for name in [name for name in os.environ if name.startswith("KOINE_")]:
        del os.environ[name]
    os.environ["KOINE_GRPC_PORT"] = "0"  # tests of gRPC take a free port


@pytest.fixture(scope="session")
def client(tiny_artifact: Artifact) -> Iterator[TestClient]:
    """A ready service with default limits."""
    with serving(tiny_artifact) as client:
        yield client
