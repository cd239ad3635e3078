"""Separately trained dictionaries in one numbering, and stability: what a shuffle cannot hide."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.training.evaluation.naive import csr, dense_codes, seeds
from tests.training.stores import ATOMS, atoms_store
from training.activations import ActivationStore
from training.evaluation.codes import num_items
from training.evaluation.encoding import Dictionary
from training.evaluation.matched import MatchedDictionary, correlation, matched
from training.evaluation.stability import decoder_rows, matched_cosine, stability
from training.model import AlignedDictionary, ModelConfig

WIDTHS = {"image": 20, "other": 16, "words": 12}
CONFIG = ModelConfig(num_concepts=ATOMS, k=3, selection="local")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ActivationStore:
    return atoms_store(tmp_path_factory.mktemp("matching") / "store", 600, unpaired=True)


def model(widths: dict[str, int], seed: int = 0, concepts: int = ATOMS) -> AlignedDictionary:
    torch.manual_seed(seed)
    return AlignedDictionary(ModelConfig(num_concepts=concepts, k=3, selection="local"), widths)


def renumbered(part: AlignedDictionary, order_C: np.ndarray) -> AlignedDictionary:
    """The same dictionary where concept order_C[c] is now called c."""
    moved = model({name: part.of(name).dictionary_CD.shape[1] for name in part.streams})
    state = {
        key: tensor[order_C] if "_C" in key else tensor for key, tensor in part.state_dict().items()
    }
    moved.load_state_dict(state)
    return moved


def test_a_renumbering_of_one_stream_is_undone(store: ActivationStore) -> None:
    # two streams that see the same activations through the same weights, numbered differently
    part, order_C = model({"image": 20}), np.random.default_rng(1).permutation(ATOMS)
    twin = store.only("image")
    shuffled = renumbered(part, order_C)
    both = AlignedDictionary(CONFIG, {"image": 20, "twin": 20})
    acts = torch.from_numpy(twin.gather(twin.split("train")).acts["image"])
    codes_a = part.encode({"image": acts}, "independent")["image"]
    codes_b = shuffled.encode({"image": acts}, "independent")["image"]
    dense_a, dense_b = (_dense(codes.indices_NK, codes.values_NK) for codes in (codes_a, codes_b))
    correlation_CC = correlation(csr(dense_b), csr(dense_a))
    alive_C = dense_b.any(axis=0)
    assert alive_C.sum() > ATOMS / 2
    assert (correlation_CC.argmax(axis=1)[alive_C] == order_C[alive_C]).all()
    found = MatchedDictionary(
        {"image": part, "twin": renumbered_as(shuffled, "twin")},
        {"image": np.arange(ATOMS), "twin": order_C},
    )
    codes = found.encode({"image": acts, "twin": acts}, "joint")
    assert torch.equal(codes["image"].indices_NK, codes["twin"].indices_NK)
    rebuilt = found.decode("twin", codes["image"])
    assert torch.allclose(rebuilt, part.decode("image", codes_a), atol=1e-6)
    assert isinstance(found, Dictionary)
    assert isinstance(both, Dictionary)


def renumbered_as(part: AlignedDictionary, name: str) -> AlignedDictionary:
    """The one stream of a dictionary under another name."""
    (old,) = part.streams
    moved = model({name: part.of(old).dictionary_CD.shape[1]})
    state = part.state_dict()
    moved.load_state_dict({key.replace(f".{old}.", f".{name}."): x for key, x in state.items()})
    return moved


def _dense(indices_NK: torch.Tensor, values_NK: torch.Tensor) -> np.ndarray:
    codes = torch.zeros(len(indices_NK), ATOMS).scatter(1, indices_NK, values_NK)
    return codes.numpy()


def test_matching_is_one_to_one_and_absent_rows_do_not_disturb_it(store: ActivationStore) -> None:
    parts = {name: model({name: width}, seed) for seed, (name, width) in enumerate(WIDTHS.items())}
    found = matched(parts, store)
    for name in WIDTHS:
        shared_C = found.get_buffer(f"shared_{name}")
        assert sorted(shared_C.tolist()) == list(range(ATOMS))
    assert torch.equal(found.get_buffer("shared_image"), torch.arange(ATOMS))
    batch = store.gather(store.split("test"))
    acts = {name: torch.from_numpy(x) for name, x in batch.acts.items()}
    assert not batch.present_NS.all()
    codes = found.encode(acts, "joint", torch.from_numpy(batch.present_NS))
    assert not codes["other"].values_NK[~batch.present_NS[:, 1]].any()


@given(seeds())
def test_correlation_is_numpys(seed: int) -> None:
    a, b = dense_codes(12, 4, seed), dense_codes(12, 4, seed + 1)
    got = correlation(csr(a), csr(b))
    for i, x in enumerate(a.T):
        for j, y in enumerate(b.T):
            expected = np.corrcoef(x, y)[0, 1] if x.std() and y.std() else 0
            assert got[i, j] == pytest.approx(expected, abs=1e-6)


def test_one_stream_of_a_store_is_the_store_without_the_rows_that_lack_it(
    store: ActivationStore,
) -> None:
    alone = store.only("other")
    assert [spec.name for spec in alone.streams] == ["other"]
    assert alone.fingerprint == store.fingerprint
    for split in ("train", "val", "test"):
        rows = alone.split(split)
        kept = store.split(split)[store.counts("other")[store.split(split)] > 0]
        assert np.array_equal(rows, kept)
        assert alone.gather(rows).present_NS.all()
        assert np.array_equal(alone.gather(rows).acts["other"], store.gather(rows).acts["other"])
    assert len(store.streams) == 3
    assert num_items(csr(np.zeros((3, 2)))) == 3


def rows(seed: int, count: int = 5) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(count, 3))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@given(st.integers(0, 10_000))
def test_matched_cosine_is_the_best_of_all_matchings(seed: int) -> None:
    a, b = rows(seed), rows(seed + 1)
    best = max(np.mean([a[i] @ b[j] for i, j in enumerate(p)]) for p in permutations(range(5)))
    assert matched_cosine(a, b) == pytest.approx(best)
    assert matched_cosine(a, a[::-1]) == pytest.approx(1)


def test_a_renumbered_dictionary_is_the_same_one_and_seeds_differ() -> None:
    one = model(WIDTHS)
    other = renumbered(one, np.random.default_rng(0).permutation(ATOMS))
    assert stability([one, other])["mean"] == pytest.approx(1)
    different = stability([one, model(WIDTHS, seed=1)])
    assert different["mean"] is not None
    assert different["mean"] < 0.8
    assert set(different) == {*WIDTHS, "mean"}
    assert stability([one]) == dict.fromkeys([*WIDTHS, "mean"])


def test_decoder_rows_are_the_unit_rows_of_the_dictionary_whatever_the_scale() -> None:
    one = model(WIDTHS)
    stream = one.of("image")
    stream.scale.fill_(7.0)
    stream.shift_D.fill_(0.3)
    expected = torch.nn.functional.normalize(stream.dictionary_CD, dim=1).detach().numpy()
    # a difference of two float32 decodings
    assert decoder_rows(one, "image") == pytest.approx(expected, abs=1e-5)
