"""The service that the load tests are tried on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from benchmarks.serving.server import Server, serving
from koine.artifact import Artifact
from load_tests.run import Service


class Running(NamedTuple):
    """A server with the tiny artifact, and where it listens."""

    server: Server
    service: Service


@pytest.fixture(scope="package")
def running(tiny_artifact: Artifact) -> Iterator[Running]:
    """Over HTTP and gRPC."""
    with serving(tiny_artifact.path, core=None, grpc=True) as server:
        yield Running(server, Service(server.url, server.grpc_target))
