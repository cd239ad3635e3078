"""What the store's tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.training.activations.runs import Runs


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Processes of their own, without waiting for torch each time."""
    runs = Runs(tmp_path_factory.mktemp("log") / "stderr")
    yield runs
    runs.close()
