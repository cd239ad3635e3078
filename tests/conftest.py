"""What several test folders share: nothing but fixtures."""

from __future__ import annotations

from pathlib import Path

import pytest

from koine.artifact import Artifact
from tests.service.labelled import labelled
from tests.tiny import write_localising, write_tiny


@pytest.fixture(scope="session")
def tiny_artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Streams `tiny_a`, `tiny_b` (images), `tiny_text`, `imported` (no backbone); read only."""
    return write_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def localising_artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The same, labelled, with a localiser of `tiny_a`; read only."""
    folder = tmp_path_factory.mktemp("localising")
    return labelled(write_localising(folder), folder / "labelled")


@pytest.fixture(scope="session")
def real_encoders() -> Path:
    """Directory of real pretrained encoders, beside the project where somebody put it."""
    folder = Path(__file__).parents[1] / ".." / "shared" / "real" / "encoders"
    if not folder.is_dir():
        pytest.skip("real pretrained encoders are not at ../shared/real/encoders")
    return folder.resolve()
