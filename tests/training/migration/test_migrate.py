"""Matching of dictionaries: itself permuted, an untrained one, widths, labels that go over."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from koine.concepts import Concept, read_concepts
from koine.errors import DataError, RequestError
from tests.training.stores import atoms_store, write_store
from training.__main__ import main
from training.activations.store import ActivationStore
from training.checkpoint import load_model, save_model
from training.configs import FitConfig
from training.initial import initial_model
from training.migration.carry import carried
from training.migration.match import Match
from training.migration.migrate import as_json, migrate, summary
from training.migration.sides import open_side
from training.trainer import fit

CONFIG = FitConfig(num_concepts=32, k=3, steps=150, seed=1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ActivationStore:
    return atoms_store(tmp_path_factory.mktemp("migrate") / "store", 600)


@pytest.fixture(scope="module")
def run(store: ActivationStore) -> Path:
    return fit(store, CONFIG, store.path.parent / "run", device="cpu")


@pytest.fixture(scope="module")
def permuted(run: Path) -> tuple[Path, np.ndarray]:
    """The same dictionary with concept order[i] at place i."""
    model = load_model(run)
    order = np.random.default_rng(3).permutation(32)
    state = {
        name: tensor[torch.from_numpy(order)] if len(tensor.shape) and len(tensor) == 32 else tensor
        for name, tensor in model.state_dict().items()
    }
    model.load_state_dict(state)
    out = run.parent / "permuted"
    out.mkdir()
    save_model(out, model, 0)
    return out, order


def test_a_permuted_dictionary_gives_the_permutation(
    run: Path, permuted: tuple[Path, np.ndarray], store: ActivationStore
) -> None:
    other, order = permuted
    old, new = open_side(run), open_side(other)
    for data in (store, None):
        found = migrate(old, new, data).matches
        assert len(found) == 32
        assert [order[m.new] for m in found] == [m.old for m in found]
        assert min(m.confidence for m in found) > 0.999


def test_an_untrained_dictionary_has_almost_no_counterpart(
    run: Path, store: ActivationStore
) -> None:
    out = run.parent / "untrained"
    out.mkdir()
    save_model(out, initial_model(store, replace(CONFIG, seed=2)), 0)  # not what it grew from
    old, new = open_side(run), open_side(out)
    content = as_json(old, new, migrate(old, new, store), store, 0.5)
    assert len(content["matches"]) <= 1
    assert len(content["only_old"]) >= 31
    assert "of 32 concepts have a counterpart among 32" in summary(content)


def test_dictionaries_without_a_common_stream_match_by_what_fires(
    store: ActivationStore, run: Path
) -> None:
    """Codes of another stream of the same items link them; without a store nothing does."""
    alone = {"words": [store.vectors("words", np.array([i])) for i in range(len(store))]}
    words = write_store(run.parent / "words_store", alone)
    other = fit(words, CONFIG, run.parent / "words", device="cpu")
    image = store.only("image")
    one = fit(image, CONFIG, run.parent / "image", device="cpu")
    with pytest.raises(DataError, match="give `--store` with streams of both"):
        migrate(open_side(one), open_side(other), None)
    found = migrate(open_side(one), open_side(other), store)
    assert found.levels.keys() == {"firing"}
    # confidence is above 0 beyond the 99 % quantile of chance: .3 of 32 by chance
    assert sum(m.confidence > 0 for m in found.matches) >= 8


def test_what_is_no_dictionary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="neither an artifact nor a run"):
        open_side(tmp_path)


def test_a_store_of_another_width_is_refused(run: Path, store: ActivationStore) -> None:
    narrow = write_store(run.parent / "narrow", {"image": [np.ones((1, 5), np.float32)] * 20})
    with pytest.raises(DataError, match="`image` is 5 wide"):
        migrate(open_side(run), open_side(run), narrow)


def test_labels_go_over_as_far_as_the_match_is_sure() -> None:
    old = [
        Concept(id=0, label="dog", status="verified"),
        Concept(id=1, label="red", status="verified"),
        Concept(id=2, label="cat", status="rejected"),
        Concept(id=3, label="sea", status="proposed"),
        Concept(id=4),
    ]
    new = [Concept(id=c) for c in range(5)]
    new[3] = Concept(id=3, label="lake", status="verified")
    sure = {0: 0.9, 1: 0.6, 2: 0.6, 3: 0.9, 4: 0.9}
    matches = [Match(c, c, p, None, None, True) for c, p in sure.items()]
    got = carried(old, new, matches)
    assert (got[0].label, got[0].status, got[0].source, got[0].score) == (
        "dog",
        "verified",
        "migrated:0",
        0.9,
    )
    assert (got[1].label, got[1].status) == ("red", "proposed")
    assert got[2] == new[2]  # a doubtful rejection says nothing
    assert got[3] == new[3]  # what a person said of the new one stays
    assert got[4] == new[4]
    assert carried(old, new, [Match(0, 0, 0.3, None, None, True)]) == new


def test_the_command_writes_the_match_and_the_labels(
    run: Path, permuted: tuple[Path, np.ndarray], store: ActivationStore, tmp_path: Path
) -> None:
    other, order = permuted
    named = tmp_path / "concepts.jsonl"
    lines = [Concept(id=c, label=f"label{c}", status="verified") for c in range(32)]
    named.write_text("".join(c.model_dump_json() + "\n" for c in lines))
    out, applied = tmp_path / "migration.json", tmp_path / "new.jsonl"
    words = ["migrate", str(run), str(other), "--store", str(store.path), "--out", str(out)]
    assert main([*words, "--apply", str(applied)]) == 2  # nothing says what OLD's are called
    assert main([*words, "--labels", str(named), "--apply", str(applied)]) == 0
    content = json.loads(out.read_text())
    assert content["schema"] == "koine.migration/1"
    assert content["only_old"] == content["only_new"] == []
    assert [c.label for c in read_concepts(applied)] == [f"label{c}" for c in order]
