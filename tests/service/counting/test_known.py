"""What was counted before is known, whatever comes in one piece or in many."""

from __future__ import annotations

import numpy as np
import pytest

from service.counting import known as module
from service.counting.known import Known


def test_it_is_a_set() -> None:
    rng = np.random.default_rng(0)
    known, seen = Known(), set[int]()
    for _ in range(50):
        keys_N = rng.integers(0, 300, rng.integers(0, 20)).astype(np.uint64) << np.uint64(55)
        expected: list[bool] = []
        for key in keys_N.tolist():
            expected.append(key not in seen)
            seen.add(key)
        assert known.first(keys_N).tolist() == expected


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 10)
    known = Known()
    assert known.first(np.arange(12, dtype=np.uint64)).all()
    assert known.full
    assert known.first(np.array([3, 99], np.uint64)).tolist() == [False, True]
    assert known.first(np.array([99], np.uint64)).tolist() == [True]  # not remembered
