"""Counting in pieces, in any order and by several, gives what counting all at once gives."""

from __future__ import annotations

import numpy as np
import pytest

from koine.codes import PAD, Codes
from koine.drift.means import MeanCounts
from koine.drift.tally import GROUPS, StreamTally, Tally, group_of, tally_bytes, tally_of
from koine.errors import ArtifactError
from koine.profile import Profile, StreamProfile, jaccard

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
        assert stream.value_sums_C == pytest.approx(own.value_sums_C, rel=1e-5)
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
    group_N = rng.integers(0, 7, items)
    pieces: list[Tally] = []
    for at in np.array_split(rng.permutation(items), 9):
        place = {int(item): row for row, item in enumerate(at)}
        b = np.array([item for item in at if item in has_b], np.int64)
        rows = {"a": np.arange(len(at)), "b": np.array([place[int(n)] for n in b], np.int64)}
        pieces.append(
            Tally.of(
                "demo@1", {"a": part(codes["a"], at), "b": part(codes["b"], b)}, rows,
                group_N[at], C,
            )
        )  # fmt: skip
    total = pieces[0]
    for piece in pieces[1:]:
        total = tally_of(tally_bytes(total)) + tally_of(tally_bytes(piece))
    whole = Profile(
        "demo@1",
        {
            "a": StreamProfile.of(codes["a"], group_N, C),
            "b": StreamProfile.of(part(codes["b"], has_b), group_N[has_b], C),
        },
        {
            "a|b": MeanCounts.of(
                jaccard(part(codes["a"], has_b), part(codes["b"], has_b)), group_N[has_b]
            )
        },
    )
    assert_same(whole, total.profile())


def test_a_client_is_in_one_group_whenever_and_wherever_it_comes() -> None:
    groups = {group_of("ann", minute) for minute in range(100)}
    assert len(groups) == 1
    assert len({group_of(f"client {n}", 0) for n in range(2000)}) == GROUPS
    assert [group_of("", minute) for minute in range(60)] == list(range(60))


def test_nothing_is_an_empty_profile() -> None:
    tally = Tally("demo@1", {"a": StreamTally.empty(C, K)})
    profile = tally_of(tally_bytes(tally)).profile()
    assert profile.streams["a"].items == 0
    assert profile.streams["a"].fires.blocks == 0
    assert len(tally_bytes(tally)) < 2000


def test_counts_of_a_wide_dictionary_are_small() -> None:
    rng = np.random.default_rng(3)
    order_NK = np.sort(rng.zipf(1.3, (1000, 64)) % 8192, 1).astype(np.int32)
    codes = Codes(order_NK, np.ones((1000, 64), np.float32), np.zeros(1000, np.float32))
    tally = Tally.of(
        "demo@1", {"a": codes}, {"a": np.arange(1000)}, rng.integers(0, GROUPS, 1000), 8192
    )
    assert len(tally_bytes(tally)) < 100_000


def test_other_counts_do_not_add_up_and_others_bytes_are_refused() -> None:
    one = Tally("demo@1", {"a": StreamTally.empty(C, K)})
    with pytest.raises(ArtifactError, match="do not add up"):
        _ = one + Tally("demo@2", {"a": StreamTally.empty(C, K)})
    for content in (b"", b"damaged", tally_bytes(one)[:-9]):
        with pytest.raises(ArtifactError, match="are damaged"):
            tally_of(content)
