"""A started Redis, empty for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.cache.server import RedisServer


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """Not started yet: options are the test's."""
    server = RedisServer(tmp_path)
    try:
        yield server
    finally:
        server.stop()
