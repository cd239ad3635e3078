"""Firing counts, usage, label Jaccard and label recovery against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.evaluation.naive import csr, dense_codes, jaccard, mean, seeds
from training.evaluation import labels as labels_module
from training.evaluation.labels import label_jaccard, label_purity, label_recovery
from training.evaluation.latents import Firing, perplexity

STREAMS = ("x", "y", "z")
ITEMS, CONCEPTS, LABELS = 14, 7, 4


def example(seed: int) -> tuple[dict, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    dense = {name: dense_codes(ITEMS, CONCEPTS, seed + i) for i, name in enumerate(STREAMS)}
    present_NS = random.random((ITEMS, 3)) < 0.8
    for column, name in enumerate(STREAMS):
        dense[name][~present_NS[:, column]] = 0
        dense[name][:, random.random(CONCEPTS) < 0.3] = 0  # dead in this stream
    return dense, present_NS, random.random((ITEMS, LABELS)) < 0.3


def firing(
    dense: dict, present_NS: np.ndarray, labels_NL: np.ndarray, cuts: list[int] | None = None
) -> Firing:
    counts = Firing(tuple(dense), next(iter(dense.values())).shape[1], labels_NL.shape[1])
    edges = [0, *sorted(cuts or []), len(present_NS)]
    for start, end in zip(edges, edges[1:], strict=False):
        here = slice(start, end)
        batch = {name: csr(x[here]) for name, x in dense.items()}
        counts.add(batch, present_NS[here], labels_NL[here])
    return counts


def naive_label_jaccard(dense: dict, labels_NL: np.ndarray) -> tuple[float, float | None]:
    scores: list[float | None] = []
    for concept in range(CONCEPTS):
        histograms = [
            np.sum([labels_NL[n] for n in range(ITEMS) if x[n, concept] > 0] or [[0] * LABELS], 0)
            for x in dense.values()
        ]
        alive = [h for h in histograms if h.any()]
        pairs = [
            np.minimum(a, b).sum() / np.maximum(a, b).sum()
            for i, a in enumerate(alive)
            for b in alive[i + 1 :]
        ]
        scores.append(mean(pairs))
    return sum(score or 0 for score in scores) / CONCEPTS, mean(scores)


@given(seeds(), st.lists(st.integers(0, ITEMS), max_size=4))
def test_label_jaccard_is_the_papers(seed: int, cuts: list[int]) -> None:
    dense, present_NS, labels_NL = example(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels_module, "BLOCK", 3)
        got = label_jaccard(firing(dense, present_NS, labels_NL, cuts))
    expected_all, expected_alive = naive_label_jaccard(dense, labels_NL)
    assert got["all"] == pytest.approx(expected_all)
    assert got["alive"] == pytest.approx(expected_alive)


def test_dead_and_lonely_latents_count_zero_in_all_and_not_in_alive() -> None:
    one = np.array([[1, 1, 0, 0]], np.float32)  # concept 1 fires in x alone, 2 and 3 nowhere
    other = np.array([[1, 0, 0, 0]], np.float32)
    dense = {"x": one, "y": other}
    got = label_jaccard(firing(dense, np.ones((1, 2), bool), np.ones((1, 3), bool)))
    assert got == {"all": 0.25, "alive": 1.0}
    nothing = {"x": one * 0, "y": one * 0}
    got = label_jaccard(firing(nothing, np.ones((1, 2), bool), np.ones((1, 3), bool)))
    assert got == {"all": 0.0, "alive": None}


def test_a_latent_that_fires_only_on_unlabelled_items_is_dead_for_labels() -> None:
    dense = {"x": np.ones((2, 1), np.float32), "y": np.ones((2, 1), np.float32)}
    counts = firing(dense, np.ones((2, 2), bool), np.zeros((2, 3), bool))
    assert label_jaccard(counts) == {"all": 0.0, "alive": None}
    assert counts.latents() == {"dead": 0, "mixed": 0, "alive": 1, "dense": 1}


@given(seeds(), st.lists(st.integers(0, ITEMS), max_size=4))
def test_latents_usage_and_l0_are_counts(seed: int, cuts: list[int]) -> None:
    dense, present_NS, labels_NL = example(seed)
    counts = firing(dense, present_NS, labels_NL, cuts)
    alive_in = [sum(bool(x[:, c].any()) for x in dense.values()) for c in range(CONCEPTS)]
    assert counts.latents() == {
        "dead": alive_in.count(0),
        "mixed": alive_in.count(1) + alive_in.count(2),
        "alive": alive_in.count(3),
        "dense": sum(
            any(
                (x[:, c] > 0).sum() > 0.1 * present_NS[:, column].sum()
                for column, x in enumerate(dense.values())
            )
            for c in range(CONCEPTS)
        ),
    }
    for column, (name, x) in enumerate(dense.items()):
        rows = int(present_NS[:, column].sum())
        assert counts.l0()[name] == (pytest.approx((x > 0).sum() / rows) if rows else None)
        fires = [int(f) for f in (x > 0).sum(0) if f]
        shares = [f / sum(fires) for f in fires]
        expected = math.exp(-sum(p * math.log(p) for p in shares)) if fires else None
        assert counts.usage()[name] == pytest.approx(expected)
        rates = counts.rates()[name]
        assert rates[0] == CONCEPTS - len(fires)
        assert sum(rates) == CONCEPTS


@given(st.integers(1, 50), st.integers(1, 9))
def test_usage_of_equally_frequent_concepts_is_their_number(used: int, each: int) -> None:
    counts_C = np.zeros(60, np.int64)
    counts_C[:used] = each
    assert perplexity(counts_C) == pytest.approx(used)


@given(seeds(), st.lists(st.integers(0, ITEMS), max_size=4))
def test_firing_entropy_is_that_of_the_streams_shares(seed: int, cuts: list[int]) -> None:
    dense, present_NS, labels_NL = example(seed)
    entropies = []
    for concept in range(CONCEPTS):
        rates = [
            (x[:, concept] > 0).sum() / max(1, present_NS[:, column].sum())
            for column, x in enumerate(dense.values())
        ]
        shares = [rate / sum(rates) for rate in rates if rate]
        if shares:
            entropies.append(-sum(p * math.log(p) for p in shares) / math.log(3))
    got = firing(dense, present_NS, labels_NL, cuts).firing_entropy()
    assert got == (pytest.approx(np.mean(entropies)) if entropies else None)


def test_firing_entropy_is_one_when_shared_and_zero_when_private() -> None:
    shared, private = np.ones((4, 1), np.float32), np.zeros((4, 1), np.float32)
    everywhere, unlabelled = np.ones((4, 2), bool), np.ones((4, 0), bool)
    assert firing({"x": shared, "y": shared}, everywhere, unlabelled).firing_entropy() == 1
    assert firing({"x": shared, "y": private}, everywhere, unlabelled).firing_entropy() == 0
    assert firing({"x": shared}, everywhere[:, :1], unlabelled).firing_entropy() is None


@given(seeds())
def test_purity_takes_its_label_from_the_training_rows(seed: int) -> None:
    everywhere = np.ones((ITEMS, 3), bool)
    train, _, train_labels = example(seed)
    held, _, held_labels = example(seed + 100)
    got = label_purity(
        firing(train, everywhere, train_labels), firing(held, everywhere, held_labels)
    )
    for stream in STREAMS:
        pure, chance = [], []
        for concept in range(CONCEPTS):
            counts = train_labels[train[stream][:, concept] > 0].sum(0)
            fires = held[stream][:, concept] > 0
            if counts.any() and fires.sum() >= 5:
                label = int(counts.argmax())
                pure.append(held_labels[fires, label].mean())
                chance.append(held_labels[:, label].mean())
        assert got[stream]["concepts"] == len(pure)
        assert got[stream]["mean"] == (pytest.approx(np.mean(pure)) if pure else None)
        assert got[stream]["chance"] == (pytest.approx(np.mean(chance)) if pure else None)


def positions(holds_N: np.ndarray) -> list[int]:
    return [int(position) for position in np.flatnonzero(holds_N)]


def naive_recovery(
    train: dict, train_labels: np.ndarray, held: dict, held_labels: np.ndarray, name: str
) -> dict[int, list[float]]:
    """Held-out Jaccards of every concept that is best on the training rows, by label."""
    found = {}
    for label in range(LABELS):
        if not train_labels[:, label].any() or not held_labels[:, label].any():
            continue
        truth = set(positions(train_labels[:, label]))
        fits = [jaccard(set(positions(train[name][:, c])), truth) or 0 for c in range(CONCEPTS)]
        truth = set(positions(held_labels[:, label]))
        found[label] = [
            jaccard(set(positions(held[name][:, c])), truth) or 0
            for c in range(CONCEPTS)
            if fits[c] == max(fits)
        ]
    return found


@given(seeds())
def test_label_recovery_chooses_on_train_and_measures_on_held_out(seed: int) -> None:
    everywhere = np.ones((ITEMS, 3), bool)
    train, _, train_labels = example(seed)
    held, _, held_labels = example(seed + 100)
    names = tuple("pqrs")
    got = label_recovery(
        firing(train, everywhere, train_labels), firing(held, everywhere, held_labels), names
    )
    for stream in STREAMS:
        expected = naive_recovery(train, train_labels, held, held_labels, stream)
        entries = {entry["label"]: entry for entry in got[stream]["labels"]}
        assert set(entries) == {names[label] for label in expected}
        for label, allowed in expected.items():
            entry = entries[names[label]]
            assert any(entry["jaccard"] == pytest.approx(value) for value in allowed)
            assert entry["f1"] == pytest.approx(2 * entry["jaccard"] / (1 + entry["jaccard"]))
        assert got[stream]["mean_jaccard"] == pytest.approx(
            mean([entry["jaccard"] for entry in entries.values()])
        )


def test_a_perfect_concept_recovers_its_label() -> None:
    labels_NL = np.array([[1, 0], [0, 1], [1, 0], [0, 0]], bool)
    codes = np.zeros((4, 5), np.float32)
    codes[:, 3] = labels_NL[:, 0]
    codes[:, 1] = labels_NL[:, 1]
    counts = firing({"x": codes}, np.ones((4, 1), bool), labels_NL)
    got = label_recovery(counts, counts, ("dog", "cat"))["x"]
    assert (got["mean_jaccard"], got["mean_f1"]) == (1, 1)
    assert {entry["label"]: entry["concept"] for entry in got["labels"]} == {"dog": 3, "cat": 1}
