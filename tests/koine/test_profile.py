"""Reference counts add up, travel and refuse what they do not know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from koine.codes import Codes
from koine.errors import ArtifactError
from koine.profile import StreamProfile, read_profile, write_profile

CODES = Codes(
    np.array([[3, 1], [3, -1], [-1, -1]], np.int32),
    np.array([[2.0, 1.0], [0.5, 0.0], [0.0, 0.0]], np.float32),
    np.array([0.1, 1.0, 7.5], np.float32),
)


def test_counts() -> None:
    profile = StreamProfile.empty(5, 2).counting(CODES)
    assert profile.items == 3
    assert profile.fires_C.tolist() == [0, 1, 0, 2, 0]
    assert profile.value_sums_C.tolist() == [0, 1, 0, 2.5, 0]
    assert profile.l0_K1.tolist() == [1, 1, 1]
    assert {int(b): int(profile.fvu_B[b]) for b in np.flatnonzero(profile.fvu_B)} == {
        3: 1,
        32: 1,
        64: 1,
    }
    assert profile.rates_C.tolist() == pytest.approx([0, 1 / 3, 0, 2 / 3, 0])


def test_counting_twice_is_counting_both() -> None:
    once = StreamProfile.empty(5, 2).counting(CODES)
    twice = once.counting(CODES)
    assert twice.items == 6
    assert (twice.fires_C == 2 * once.fires_C).all()
    assert (twice.l0_K1 == 2 * once.l0_K1).all()
    assert twice.fires_C.dtype == np.uint32


def test_no_items_have_rate_zero() -> None:
    assert (StreamProfile.empty(5, 2).rates_C == 0).all()


def test_a_profile_reads_back(tmp_path: Path) -> None:
    profile = StreamProfile.empty(5, 2).counting(CODES)
    write_profile(tmp_path / "p", {"a": profile, "b": StreamProfile.empty(5, 2)})
    back = read_profile(tmp_path / "p")
    assert list(back) == ["a", "b"]
    assert back["a"].items == 3
    assert (back["a"].value_sums_C == profile.value_sums_C).all()
    assert (back["a"].fvu_B == profile.fvu_B).all()


def test_a_profile_of_another_schema_or_none_is_refused(tmp_path: Path) -> None:
    save_file({"x": np.zeros(1)}, tmp_path / "p", metadata={"schema": "koine.profile/9"})
    with pytest.raises(ArtifactError, match="schema 'koine.profile/9'; this Koine reads"):
        read_profile(tmp_path / "p")
    (tmp_path / "p").write_text("not safetensors")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_profile(tmp_path / "p")
