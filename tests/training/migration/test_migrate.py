"""Matching of dictionaries: itself permuted, an untrained one, widths, labels that go over."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from koine.concepts import Status, read_concepts
from koine.errors import DataError, RequestError
from koine.labels import Edit, LabelLayer, Shown, State
from koine.manifest import CONCEPTS
from tests.training.stores import atoms_store, write_store
from training.__main__ import main
from training.activations.store import ActivationStore
from training.checkpoint import load_model, save_model
from training.configs import FitConfig
from training.export.build import export
from training.initial import initial_model
from training.migration.carry import carried
from training.migration.match import Match
from training.migration.migrate import as_json, migrate, summary
from training.migration.sides import open_side
from training.trainer import fit

CONFIG = FitConfig(num_concepts=32, k=3, steps=60, batch_size=64, lr=5e-3, seed=1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ActivationStore:
    return atoms_store(tmp_path_factory.mktemp("migrate") / "store", 400)


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


def shown(status: Status, label: str | None, proposed: str | None = None) -> Shown:
    return Shown(state=State(label=label, status=status), proposed=proposed or label)


def matched(sure: dict[int, float]) -> list[Match]:
    return [Match(c, c, p, None, None, True) for c, p in sure.items()]


def test_labels_go_over_as_far_as_the_match_is_sure() -> None:
    old = [
        shown("verified", "dog"),
        shown("verified", "red"),
        shown("proposed", "sea"),
        shown("unnamed", None),
        shown("renamed", "tree"),
    ]
    new = [shown("unnamed", None) for _ in old]
    new[2] = shown("verified", "lake")
    sure = {0: 0.9, 1: 0.6, 2: 0.9, 3: 0.9, 4: 0.3}
    edits = carried(old, new, matched(sure), history={}, source="migrated from a@1")
    assert [(e.concept, e.status, e.label, e.confidence) for e in edits] == [
        (0, "verified", "dog", 0.9),
        (1, "proposed", "red", 0.6),  # a doubtful judgement is a proposal again
    ]  # what a person said of 2 stays; 3 has no label; the match of 4 is too doubtful
    assert edits[0].source == "migrated from a@1, concept 0"


def test_a_rejection_goes_over_to_the_same_proposal_of_a_sure_match() -> None:
    old = [shown("rejected", None, "cat")] * 3
    new = [shown("proposed", "cat"), shown("proposed", "dog"), shown("proposed", "cat")]
    edits = carried(old, new, matched({0: 0.9, 1: 0.9, 2: 0.6}), history={}, source="a@1")
    assert [(e.concept, e.status, e.label) for e in edits] == [(0, "rejected", None)]


def test_the_command_writes_the_match_and_carries_labels_into_the_layer(
    run: Path, permuted: tuple[Path, np.ndarray], store: ActivationStore, tmp_path: Path
) -> None:
    """Verified in the old layer → verified in the new one, with history; once, and revocable."""
    other, order = permuted
    (other / "fit.json").write_bytes((run / "fit.json").read_bytes())
    artifacts = [
        export(path, tmp_path / name, name=name).artifact
        for path, name in ((run, "old"), (other, "new"))
    ]
    labels = tmp_path / "labels"
    labels.mkdir()
    old, new = (LabelLayer(labels, a, read_concepts(a.file(CONCEPTS))) for a in artifacts)
    old.append([Edit(concept=c, status="renamed", label=f"label{c}") for c in range(4)], person="p")
    out, paths = tmp_path / "migration.json", [str(a.path) for a in artifacts]
    words = ["migrate", *paths, "--store", str(store.path), "--out", str(out)]
    applying = [*words, "--apply", str(labels), "--by", "anna"]
    assert main([*words, "--apply", str(labels)]) == 2  # nobody answers for it
    assert main(["migrate", str(other), *applying[2:]]) == 2  # labels belong to artifacts
    assert main(applying) == 0
    content = json.loads(out.read_text())
    assert content["schema"] == "koine.migration/1"
    assert content["only_old"] == content["only_new"] == []
    place = {int(c): i for i, c in enumerate(order)}
    for c in range(4):
        (change,) = new.labels().history[place[c]]
        assert change.after == State(label=f"label{c}", status="renamed")
        assert (change.person, change.source) == ("anna", f"migrated from old@1, concept {c}")
        assert change.confidence is not None
        assert change.confidence > 0.99
    new.append([Edit(concept=place[0], status="rejected")], person="p")
    assert main(applying) == 0
    assert new.labels().revision == 5  # four carried once, and what a person said since
