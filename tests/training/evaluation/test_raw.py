"""Raw references: linear maps that are found, unrelated streams at chance, rows that lack one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.training.stores import atoms_store, write_store
from training.activations import ActivationStore
from training.evaluation.raw import raw_figures


def measured(store: ActivationStore) -> dict:
    train = store.split("train")
    return raw_figures(store, train, store.split("test"), train)


def test_a_linear_relation_is_found_and_no_relation_stays_at_chance(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(500, 8))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    turned = x @ np.linalg.qr(random.normal(size=(8, 8)))[0]
    streams = {"x": x, "turned": turned, "noise": random.normal(size=(500, 5))}
    found = measured(
        write_store(tmp_path / "s", {name: list(each[:, None]) for name, each in streams.items()})
    )
    assert found["retrieval"]["x->turned"]["ridge"]["r1"] == 1
    assert found["retrieval"]["x->turned"]["cosine"]["r1"] < 0.2  # equal width, another basis
    assert found["retrieval"]["x->noise"]["cosine"] is None
    assert found["fvu"]["x->turned"] < 0.01
    assert found["retrieval"]["x->noise"]["ridge"]["r1"] < 0.1
    assert found["fvu"]["x->noise"] == pytest.approx(1, abs=0.1)
    assert found["probe"] is None


def test_rows_that_lack_a_stream_are_left_out(tmp_path: Path) -> None:
    store = atoms_store(tmp_path / "s", unpaired=True)
    train, test = (
        rows[store.counts("other")[rows] > 0] for rows in map(store.split, ("train", "test"))
    )
    found, paired = measured(store), raw_figures(store, train, test, train)
    assert len(test) < len(store.split("test"))
    for key in ("image->other", "other->words"):
        assert found["retrieval"][key] == paired["retrieval"][key]
        assert found["fvu"][key] == pytest.approx(paired["fvu"][key])
    assert found["probe"]["other"] == paired["probe"]["other"]


def test_without_validation_rows_the_penalties_are_fixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.training.stores.SPLITS", ("train", "train", "train", "test", "test"))
    found = measured(atoms_store(tmp_path / "s"))
    assert found["retrieval"]["image->other"]["ridge"]["r1"] > 0.5
    assert found["probe"]["image"]["penalty"] == 1.0
