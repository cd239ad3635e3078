"""Pairs are counted exactly, and told where they change and their parts do not."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from koine.codes import PAD, Codes
from koine.drift.cofiring import Cofiring, cofiring_of, pair_fires, top_of
from koine.drift.tally import GROUPS, Tally, tally_bytes, tally_of
from koine.drift.verdict import DriftConfig, Verdict, judge
from koine.drift.words import sentence
from koine.profile import Profile, StreamProfile, profile_bytes, profile_of

C, K = 50, 8
DOG, SNOW = 4, 9


def codes_of(fires_NC: np.ndarray, rng: np.random.Generator) -> Codes:
    indices_NK = np.full((len(fires_NC), K), PAD, np.int32)
    for n, active in enumerate(fires_NC):
        found = rng.permutation(np.flatnonzero(active))[:K]
        indices_NK[n, : len(found)] = found
    values_NK = (indices_NK != PAD).astype(np.float32)
    return Codes(indices_NK, values_NK, np.full(len(fires_NC), 0.4, np.float32))


def traffic(items: int, seed: int, *, meet: float = 1.0, dog: float = 1.0) -> Codes:
    """`meet`: how much more often dogs and snow come together than by chance."""
    rng = np.random.default_rng(seed)
    rates_C = np.full(C, 0.02)
    rates_C[[DOG, SNOW, 20, 30]] = 0.1
    rates_C[DOG] *= dog
    fires_NC = rng.random((items, C)) < rates_C
    dog_N = fires_NC[:, DOG]
    together = 0.1 * meet
    alone = (0.1 - together * rates_C[DOG]) / (1 - rates_C[DOG])
    fires_NC[:, SNOW] = rng.random(items) < np.where(dog_N, together, alone)
    return codes_of(fires_NC, rng)


def profile(codes: Codes, top_T: np.ndarray | None = None) -> StreamProfile:
    block_N = np.arange(len(codes.fvu_N)) % 40
    found = StreamProfile.of(codes, block_N, C)
    top_T = top_of(found.fires.fires_C) if top_T is None else top_T
    return replace(found, cofiring=cofiring_of(codes.indices_NK, block_N, top_T))


def verdict(now: Codes) -> Verdict:
    then = profile(traffic(20_000, 0))
    assert then.cofiring is not None
    return judge(then, profile(now, then.cofiring.top_T), DriftConfig())


def test_pairs_are_counted_as_by_hand() -> None:
    rng = np.random.default_rng(0)
    codes = codes_of(rng.random((200, C)) < 0.1, rng)
    group_N = rng.integers(0, 5, 200)
    top_T = np.sort(rng.choice(C, 12, replace=False)).astype(np.int32)
    fires_GP = pair_fires(codes.indices_NK, group_N, top_T, 5)
    for p, (a, b) in enumerate(combinations(top_T.tolist(), 2)):
        both_N = (codes.indices_NK == a).any(1) & (codes.indices_NK == b).any(1)
        assert fires_GP[:, p].tolist() == [both_N[group_N == g].sum() for g in range(5)]


@pytest.mark.parametrize("top", [[], [3]])
def test_fewer_than_two_concepts_have_no_pairs(top: list[int]) -> None:
    rng = np.random.default_rng(0)
    codes = codes_of(rng.random((20, C)) < 0.1, rng)
    top_T = np.array(top, np.int32)
    assert pair_fires(codes.indices_NK, np.zeros(20, np.int64), top_T, 1).shape == (1, 0)
    one = replace(profile(codes), cofiring=cofiring_of(codes.indices_NK, np.arange(20), top_T))
    assert judge(one, one, DriftConfig(least_items=1, least_blocks=1)).pairs == ()


def test_dogs_that_come_to_the_snow_are_told() -> None:
    found = verdict(traffic(3000, 1, meet=4))
    assert found.concepts == ()
    assert [(one.a, one.b) for one in found.pairs] == [(DOG, SNOW)]
    assert found.state == "drift"
    (one,) = found.pairs
    assert one.low < 4 < one.high
    assert "dog with snow ×" in sentence(found, {DOG: "dog", SNOW: "snow"})


def test_pairs_that_a_concept_explains_are_not() -> None:
    found = verdict(traffic(3000, 2, dog=3))
    assert [one.id for one in found.concepts] == [DOG]
    assert found.pairs == ()


def test_quiet_windows_have_no_changed_pairs() -> None:
    then = profile(traffic(20_000, 0))
    assert then.cofiring is not None
    quiet = [profile(traffic(2000, 100 + n), then.cofiring.top_T) for n in range(100)]
    assert sum(bool(judge(then, each, DriftConfig()).pairs) for each in quiet) <= 3


def test_they_add_up_and_travel() -> None:
    codes = traffic(600, 3)
    group_N = np.arange(600) % GROUPS
    top_T = np.array([1, DOG, SNOW], np.int32)
    parts = [
        Tally.of(
            "demo@1",
            {"a": Codes(*(rows[at] for rows in codes))},
            {"a": np.arange(300)},
            group_N[at],
            C,
            {"a": top_T},
        )
        for at in (np.arange(300), np.arange(300, 600))
    ]
    total = (tally_of(tally_bytes(parts[0])) + tally_of(tally_bytes(parts[1]))).profile()
    whole = cofiring_of(codes.indices_NK, group_N, top_T)
    read = profile_of(profile_bytes(Profile("demo@1", total.streams)), "it")
    for found in (total.streams["a"].cofiring, read.streams["a"].cofiring):
        assert isinstance(found, Cofiring)
        assert found.top_T.tolist() == top_T.tolist()
        assert found.fires.fires_C.tolist() == whole.fires.fires_C.tolist()
        assert found.fires.fire_squares_C.tolist() == whole.fires.fire_squares_C.tolist()
    other = profile(codes, np.array([2, 3], np.int32))
    assert (other + total.streams["a"]).cofiring is None  # of other concepts
