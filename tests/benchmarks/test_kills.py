"""A service under load is killed a few times; `benchmarks.monitoring.kills` does it more often."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.monitoring.kills import survive
from koine.artifact import Artifact


@pytest.mark.slow
def test_a_killed_service_loses_nothing_acknowledged(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    found = survive(tiny_artifact.path, tmp_path, kills=5, each=3, seed=1)
    assert (found.workers_killed, found.services_killed) == (4, 1)
    assert found.acknowledged >= 20
    assert (found.lost, found.faults) == (0, [])
    assert found.entries >= found.acknowledged
