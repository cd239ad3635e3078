"""What several test folders share: nothing but fixtures."""

from __future__ import annotations

import pytest

from koine.artifact import Artifact
from tests.tiny import write_tiny


@pytest.fixture(scope="session")
def tiny_artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Streams `tiny_a`, `tiny_b` (images), `tiny_text`, `imported` (no backbone); read only."""
    return write_tiny(tmp_path_factory.mktemp("tiny"))
