"""Counting as traffic comes gives what counting all at once gives."""

from __future__ import annotations

import numpy as np
import pytest

from koine.codes import PAD, Codes
from koine.drift.means import MeanCounts
from koine.drift.segments import key_segment, label_segment
from koine.drift.tally import MOST_ROWS, Tally
from koine.profile import Profile, StreamProfile, jaccard, profile_bytes

C, K = 40, 4


def random_codes(rng: np.random.Generator, items: int) -> Codes:
    order_NC = rng.random((items, C)).argsort(1)[:, :K].astype(np.int32)
    active_NK = np.arange(K) < rng.integers(0, K + 1, (items, 1))
    values_NK = np.where(active_NK, rng.random((items, K)), 0).astype(np.float32)
    fvu_N = rng.random(items).astype(np.float32)
    return Codes(np.where(active_NK, order_NC, PAD).astype(np.int32), values_NK, fvu_N)


def part(codes: Codes, at_M: np.ndarray) -> Codes:
    return Codes(*(rows[at_M] for rows in codes))


def assert_same(one: Profile, other: Profile) -> None:
    for name, stream in one.streams.items():
        own = other.streams[name]
        for field in ("items", "blocks", "block_squares", "block_cubes"):
            assert getattr(stream.fires, field) == getattr(own.fires, field)
        for field in ("fires_C", "fire_squares_C", "fire_items_C", "largest_C", "largest_items_C"):
            assert np.array_equal(getattr(stream.fires, field), getattr(own.fires, field)), field
        assert stream.value_sums_C == pytest.approx(own.value_sums_C)
        assert np.array_equal(stream.l0_K1, own.l0_K1)
        assert np.array_equal(stream.fvu_B, own.fvu_B)
        assert stream.fvu.sum == pytest.approx(own.fvu.sum)
        assert stream.fvu.squares == pytest.approx(own.fvu.squares)
        assert stream.l0 == own.l0
    for pair, counts in one.agreement.items():
        assert counts.squares == pytest.approx(other.agreement[pair].squares)


def test_in_any_pieces_it_is_the_profile_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    items = 300
    codes = {"a": random_codes(rng, items), "b": random_codes(rng, items)}
    has_b = np.flatnonzero(rng.random(items) < 0.6)
    clients = rng.integers(0, 7, items)
    tally = Tally("demo@1", ("a", "b"), C, K)
    for at in np.array_split(rng.permutation(items), 9):
        place = {int(item): row for row, item in enumerate(at)}
        b = [int(item) for item in at if item in has_b]
        tally.add(
            {"a": part(codes["a"], at), "b": part(codes["b"], np.array(b))},
            {"a": list(range(len(at))), "b": [place[item] for item in b]},
            [f"client {clients[item]}" for item in at],
        )
    whole = Profile(
        "demo@1",
        {
            "a": StreamProfile.of(codes["a"], clients, C),
            "b": StreamProfile.of(part(codes["b"], has_b), clients[has_b], C),
        },
        {
            "a|b": MeanCounts.of(
                jaccard(part(codes["a"], has_b), part(codes["b"], has_b)), clients[has_b]
            )
        },
    )
    assert_same(whole, tally.profile())


def test_a_segment_is_the_profile_of_its_items() -> None:
    rng = np.random.default_rng(2)
    items = 400
    codes = random_codes(rng, items)
    client_N, label_N = rng.integers(0, 5, items), rng.integers(0, 3, items)
    labels = ["", "shop", "search"]
    tally = Tally("demo@1", ("a",), C, K)
    for at in np.array_split(np.arange(items), 7):
        tally.add(
            {"a": part(codes, at)},
            {"a": range(len(at))},
            [str(client_N[item]) for item in at],
            [labels[label_N[item]] for item in at],
        )

    def expected(at: np.ndarray) -> Profile:
        return Profile("demo@1", {"a": StreamProfile.of(part(codes, at), client_N[at], C)})

    assert_same(expected(np.arange(items)), tally.profile())
    shop = np.flatnonzero(label_N == 1)
    assert_same(expected(shop), tally.profile(label_segment("shop")))
    third = np.flatnonzero(client_N == 3)
    assert_same(expected(third), tally.profile(key_segment("3")))
    assert tally.profile(key_segment("nobody")).streams["a"].items == 0


def test_more_clients_than_rows_are_still_counted_exactly() -> None:
    rng = np.random.default_rng(1)
    items = MOST_ROWS + 50
    codes = random_codes(rng, items)
    tally = Tally("demo@1", ("a",), C, K)
    tally.add({"a": codes}, {"a": range(items)}, [str(n) for n in range(items)])
    fires = tally.profile().streams["a"].fires
    assert (fires.items, fires.blocks) == (items, MOST_ROWS + 1)
    active = codes.indices_NK[codes.indices_NK != PAD]
    assert np.array_equal(fires.fires_C, np.bincount(active, minlength=C))


def test_nothing_is_an_empty_profile() -> None:
    profile = Tally("demo@1", ("a",), C, K).profile()
    assert profile.streams["a"].items == 0
    assert len(profile_bytes(profile)) < 10_000
