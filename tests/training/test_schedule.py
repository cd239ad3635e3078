"""What a step reads: every row once an epoch, the same at every call, as configured."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.configs import FitConfig
from training.schedule import lr_factor, selecting_streams, step_rows

CONFIG = FitConfig(num_concepts=8, k=2, batch_size=4)


@given(rows=st.integers(1, 60), size=st.integers(1, 9), seed=st.integers(0, 99))
@settings(deadline=None)
@pytest.mark.parametrize("shuffle", ["rows", "blocks"])
def test_an_epoch_reads_each_row_at_most_once(
    shuffle: str, rows: int, size: int, seed: int
) -> None:
    config = dataclasses.replace(CONFIG, batch_size=size, seed=seed, shuffle=shuffle)  # pyright: ignore[reportArgumentType]
    size = min(size, rows)
    ids = np.arange(100, 100 + rows)
    steps = rows // size
    read = np.concatenate([step_rows(ids, s, config).rows_N for s in range(steps)])
    assert len(read) == steps * size
    assert len(set(read.tolist())) == len(read)
    assert set(read.tolist()) <= set(ids.tolist())


def test_blocks_stay_together_and_rows_do_not() -> None:
    ids = np.arange(16)
    blocks = dataclasses.replace(CONFIG, shuffle="blocks")
    for step in range(4):
        block = step_rows(ids, step, blocks).rows_N
        assert (np.diff(block) == 1).all()
        assert block[0] % 4 == 0
    assert any((np.diff(step_rows(ids, s, CONFIG).rows_N) != 1).any() for s in range(4))


def test_steps_repeat_exactly_and_differ_from_each_other() -> None:
    ids = np.arange(64)
    first, again, later = (step_rows(ids, s, CONFIG) for s in (3, 3, 19))
    assert np.array_equal(first.rows_N, again.rows_N)
    assert np.array_equal(first.draws_N, again.draws_N)
    assert not np.array_equal(first.draws_N, later.draws_N)


@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 4))
@settings(deadline=None)
def test_selecting_streams_are_present_and_never_none(seed: int, n: int, s: int) -> None:
    present_NS = np.random.default_rng(seed).random((n, s)) < 0.6
    selecting_NS = selecting_streams(present_NS, seed, dataclasses.replace(CONFIG, seed=1))
    assert not (selecting_NS & ~present_NS).any()
    assert (selecting_NS.any(1) == present_NS.any(1)).all()


def test_stream_dropout_hits_its_share() -> None:
    present_NS = np.ones((4000, 3), bool)
    config = dataclasses.replace(CONFIG, stream_dropout=0.25)
    alone = (selecting_streams(present_NS, 0, config).sum(1) == 1).mean()
    assert alone == pytest.approx(0.25, abs=0.03)  # 4.4 standard errors
    none = selecting_streams(present_NS, 0, dataclasses.replace(CONFIG, stream_dropout=0.0))
    assert none.all()


def test_learning_rate_rises_holds_and_falls() -> None:
    config = dataclasses.replace(CONFIG, lr=1.0, warmup=0.1, decay=0.5)
    rates = [config.lr * lr_factor(step, 100, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:51] == pytest.approx([1.0] * 42)
    assert rates[99] == pytest.approx(0.02)
    flat = dataclasses.replace(CONFIG, lr=1.0, warmup=0.0, decay=0.0)
    assert {flat.lr * lr_factor(step, 100, flat) for step in range(100)} == {1.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 9}, "`k` must be at most 8, got 9"),
        ({"lr": 0.0}, "`lr` must be positive, got 0.0"),
        ({"epochs": None}, "`epochs` must be positive where `steps` is not given"),
        ({"stream_dropout": 1.5}, r"`stream_dropout` must be in \[0, 1\], got 1.5"),
        ({"warmup": 0.7, "decay": 0.7}, "`warmup \\+ decay` must be ≤ 1"),
    ],
)
def test_bad_configurations_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **change)  # pyright: ignore[reportArgumentType]
