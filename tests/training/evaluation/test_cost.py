"""What it costs: timed on the run's own artifact, unknown without it, priced only when told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from koine.errors import DataError, RequestError
from tests.tiny import write_tiny
from training.activations import ActivationStore
from training.checkpoint import load_model
from training.evaluation import speed as timing
from training.evaluation.cost import check_price, cost, known_artifact
from training.evaluation.speed import speed
from training.export.build import export
from training.model import ModelConfig

RECORD = {"seconds": 12.5, "steps": 60}


@pytest.fixture(scope="module")
def artifact(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(run, tmp_path_factory.mktemp("cost") / "artifact").artifact.path


def of(
    store: ActivationStore, model: ModelConfig, path: Path, *, price: float | None = None
) -> dict[str, Any]:
    artifact = known_artifact(path, store, model, needed=False)
    return cost(RECORD, store, model, artifact, [], price)


def test_the_artifact_is_timed_and_priced(
    run: Path, store: ActivationStore, artifact: Path
) -> None:
    found = of(store, load_model(run).config, artifact, price=0.5)
    served, price = found["served"], found["price"]
    assert set(served["items_per_second"]) == {"alpha", "beta", "gamma"}
    assert served["reads"]["alpha"] == "activations"
    assert served["bytes"] == sum(x.stat().st_size for x in artifact.rglob("*") if x.is_file()) - (
        (artifact / "manifest.json").stat().st_size
    )
    # a process without torch: with it, it would take several times as much
    assert 10e6 < served["peak_bytes"] < 300e6
    hours = 1e6 / served["items_per_second"]["beta"] / 3600 * found["machine"]["cores"]
    assert price["per_million"]["beta"] == pytest.approx(0.5 * hours)
    assert found["training"] == {"seconds": 12.5, "steps": 60}
    assert found["storage"]["codes_bytes_per_item"] == 5 * 8
    assert found["storage"]["store_bytes_per_item"] > 4 * (24 + 16 + 0.8 * 20)


def test_without_an_artifact_nothing_is_guessed(
    run: Path, store: ActivationStore, tmp_path: Path
) -> None:
    model = load_model(run).config
    found = of(store, model, tmp_path, price=0.5)
    assert found["served"] is None
    assert found["price"] is None
    with pytest.raises(DataError, match="is no artifact: give the directory that `export` wrote"):
        known_artifact(tmp_path, store, model, needed=True)


@pytest.mark.parametrize("price", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_price_is_refused(price: float) -> None:
    with pytest.raises(RequestError, match="must be above 0"):
        check_price(price)


def test_another_runs_artifact_is_refused(
    run: Path, store: ActivationStore, tmp_path: Path
) -> None:
    path = write_tiny(tmp_path / "tiny").path
    with pytest.raises(DataError, match="was not exported from this run"):
        of(store, load_model(run).config, path)


def test_images_and_texts_are_timed_from_file_to_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "MIN_SECONDS", 0.0)
    found = speed(write_tiny(tmp_path / "tiny").path, ["a dog"])
    assert set(found.reads.values()) == {"JPEG images", "texts", "activations"}
    assert all(rate > 0 for rate in found.items_per_second.values())
