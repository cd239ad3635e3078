"""Profiles add up, travel and refuse what they do not know."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from koine.codes import Codes
from koine.drift.counts import FireCounts
from koine.drift.means import MeanCounts
from koine.drift.nulls import Null
from koine.errors import ArtifactError
from koine.profile import Profile, StreamProfile, jaccard, read_profile, write_profile

CODES = Codes(
    np.array([[3, 1], [3, -1], [-1, -1]], np.int32),
    np.array([[2.0, 1.0], [0.5, 0.0], [0.0, 0.0]], np.float32),
    np.array([0.1, 1.0, 7.5], np.float32),
)
BLOCKS = np.array([0, 0, 1])
STREAM = StreamProfile.of(CODES, BLOCKS, 5)


def test_sums() -> None:
    assert STREAM.items == 3
    assert STREAM.fires.fires_C.tolist() == [0, 1, 0, 2, 0]
    assert STREAM.value_sums_C.tolist() == [0, 1, 0, 2.5, 0]
    assert STREAM.l0_K1.tolist() == [1, 1, 1]
    assert {int(b): int(STREAM.fvu_B[b]) for b in np.flatnonzero(STREAM.fvu_B)} == {
        3: 1,
        32: 1,
        64: 1,
    }
    assert STREAM.rates_C.tolist() == pytest.approx([0, 1 / 3, 0, 2 / 3, 0])
    assert STREAM.fvu.mean == pytest.approx((0.1 + 1 + 2) / 3)
    assert (STREAM.l0.mean, STREAM.l0.blocks) == (1, 2)


def test_adding_is_counting_both() -> None:
    twice = STREAM + STREAM
    assert twice.items == 6
    assert (twice.fires.fires_C == 2 * STREAM.fires.fires_C).all()
    assert (twice.l0_K1 == 2 * STREAM.l0_K1).all()
    assert (twice.fvu.blocks, twice.fires.blocks) == (4, 4)
    assert same(StreamProfile.empty(5, 2) + STREAM, STREAM)


def test_no_items_have_rate_zero() -> None:
    assert (StreamProfile.empty(5, 2).rates_C == 0).all()


def test_fvu_that_is_no_number_is_left_out() -> None:
    fvu_N = np.array([0.5, np.nan, np.nan], np.float32)
    stream = StreamProfile.of(CODES._replace(fvu_N=fvu_N), BLOCKS, 5)
    assert (stream.fvu.items, int(stream.fvu_B.sum())) == (1, 1)


def test_agreement_of_supports() -> None:
    other = CODES._replace(indices_NK=np.array([[1, 3], [4, 3], [-1, -1]], np.int32))
    assert jaccard(CODES, other).tolist()[:2] == [1, 0.5]
    assert np.isnan(jaccard(CODES, other)[2])


def same(a: StreamProfile, b: StreamProfile) -> bool:
    arrays = ("value_sums_C", "l0_K1", "fvu_B")
    return (
        all(np.array_equal(getattr(a, name), getattr(b, name)) for name in arrays)
        and (a.fvu, a.l0) == (b.fvu, b.l0)
        and all(
            np.array_equal(getattr(a.fires, f.name), getattr(b.fires, f.name))
            and np.asarray(getattr(a.fires, f.name)).dtype
            == np.asarray(getattr(b.fires, f.name)).dtype
            for f in fields(FireCounts)
        )
    )


def test_a_profile_reads_back(tmp_path: Path) -> None:
    null = Null(np.array([10.0, 20.0]), np.ones((2, 6)))
    large = StreamProfile.of(CODES, BLOCKS, 5)
    for _ in range(20):
        large = large + large  # a frozen thing is not added to in place
    streams = {"a": STREAM, "b": StreamProfile.empty(5, 2), "c": large}
    agreement = {"a|b": MeanCounts(3, 2, 5, 1.5, 1.25, 2.5)}
    write_profile(tmp_path / "p", Profile("d@1", streams, agreement))
    back = read_profile(tmp_path / "p")
    assert (back.dictionary, list(back.streams)) == ("d@1", ["a", "b", "c"])
    assert all(same(back.streams[name], streams[name]) for name in streams)
    assert back.agreement == agreement
    assert back.streams["a"].null is None
    write_profile(tmp_path / "q", Profile("d@1", {"a": replace(STREAM, null=null)}))
    read = read_profile(tmp_path / "q").streams["a"].null
    assert read is not None
    assert read.quantile(20, 0.5) == 1


def test_a_stream_of_8192_concepts_takes_at_most_150_kb(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rates_C = np.exp(rng.uniform(np.log(1e-4), np.log(0.3), 8192))
    items_B = rng.integers(1, 400, 500)
    fires = FireCounts.of_blocks(rng.binomial(items_B[:, None], rates_C), items_B)
    stream = StreamProfile(fires, rng.random(8192) * 1e4, STREAM.l0_K1, STREAM.fvu_B)
    write_profile(tmp_path / "p", Profile("d@1", {"a": stream}))
    assert (tmp_path / "p").stat().st_size <= 150_000


def test_profiles_of_other_dictionaries_do_not_add_up() -> None:
    one = Profile("d@1", {"a": STREAM}, {"a|b": MeanCounts(1, 1, 1, 1.0, 1.0, 1.0)})
    both = one + Profile("d@1", {"a": STREAM})
    assert (both.streams["a"].items, both.agreement["a|b"].items) == (6, 1)
    with pytest.raises(ArtifactError, match="d@1 .a. and d@2 .a. do not add up"):
        _ = one + Profile("d@2", {"a": STREAM})


def test_a_profile_of_another_schema_or_none_is_refused(tmp_path: Path) -> None:
    save_file(
        {"x": np.zeros(1)}, tmp_path / "p", metadata={"about": '{"schema": "koine.profile/9"}'}
    )
    with pytest.raises(ArtifactError, match="schema 'koine.profile/9'; this Koine reads"):
        read_profile(tmp_path / "p")
    (tmp_path / "p").write_text("not safetensors")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_profile(tmp_path / "p")


def test_a_profile_that_lacks_a_part_is_refused(tmp_path: Path) -> None:
    write_profile(tmp_path / "p", Profile("d@1", {"a": STREAM}))
    tensors = load_file(tmp_path / "p")
    del tensors["a.fires.fires_C"]
    with safe_open(tmp_path / "p", "numpy") as file:
        save_file(tensors, tmp_path / "q", metadata=file.metadata())
    with pytest.raises(ArtifactError, match=r"no whole profile .*fires_C"):
        read_profile(tmp_path / "q")
