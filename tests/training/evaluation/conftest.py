"""A store, a short run on it and its report, made once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.training.evaluation.stores import write_store
from training.activations import ActivationStore
from training.configs import FitConfig
from training.evaluation.evaluate import evaluate
from training.evaluation.report import write_report
from training.trainer import fit

CONFIG = FitConfig(num_concepts=40, k=5, steps=60, batch_size=64, lr=5e-3, validate_every=20)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> ActivationStore:
    """Three streams, one of them missing in some rows, and eight labels."""
    return write_store(tmp_path_factory.mktemp("evaluation") / "store")


@pytest.fixture(scope="session")
def run(store: ActivationStore) -> Path:
    """A run of 60 steps."""
    return fit(store, CONFIG, store.path.parent / "run", device="cpu")


@pytest.fixture(scope="session")
def report(run: Path) -> dict[str, Any]:
    """Its report with the trained controls, written beside it."""
    report = evaluate(run, controls=True, device="cpu")
    write_report(run, report)
    return report
