"""Reading a store: what comes out is what went in, whatever the rows, draws and shards."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koine.errors import StoreError
from tests.training.activations.naive import LABELS, Truth, store_of, truth
from training.activations import ActivationStore, store
from training.activations.rows import SPLITS

COUNTS = [(1, 1), (0, 5), (0, 1), (2, 3)]
ROWS = 47


@pytest.fixture(scope="module")
def known() -> Truth:
    return truth(ROWS, COUNTS)


@pytest.fixture(scope="module", params=[10, 47, 1])
def opened(
    request: pytest.FixtureRequest, known: Truth, tmp_path_factory: pytest.TempPathFactory
) -> ActivationStore:
    return store_of(tmp_path_factory.mktemp("store") / "s", known, request.param)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_gather_is_the_plain_loop(
    known: Truth, opened: ActivationStore, data: st.DataObject
) -> None:
    rows = data.draw(st.lists(st.integers(0, ROWS - 1), max_size=40))
    draw = st.floats(0, 1, exclude_max=True)
    draws = data.draw(st.none() | st.lists(draw, min_size=len(rows), max_size=len(rows)))
    batch = opened.gather(
        np.array(rows, np.int64), None if draws is None else np.array(draws, np.float64)
    )
    assert list(batch.acts) == [stream.name for stream in opened.streams] == list(known.vectors)
    for column, (name, per_row) in enumerate(known.vectors.items()):
        assert batch.acts[name].dtype == np.float32
        for position, row in enumerate(rows):
            m = len(per_row[row])
            assert batch.present_NS[position, column] == (m > 0)
            chosen = 0 if draws is None else int(draws[position] * m)
            expected = per_row[row][chosen] if m else np.zeros(per_row[row].shape[1])
            np.testing.assert_array_equal(batch.acts[name][position], expected)


def test_draws_reach_every_vector_equally(known: Truth, opened: ActivationStore) -> None:
    row = next(i for i, vectors in enumerate(known.vectors["s1"]) if len(vectors) == 5)
    draws = (np.arange(1000) + 0.5) / 1000
    drawn = opened.gather(np.full(1000, row), draws).acts["s1"]
    shares = [(drawn == vector).all(1).mean() for vector in known.vectors["s1"][row]]
    np.testing.assert_allclose(shares, 0.2, atol=0.002)


def test_largest_draw_stays_within_the_row(known: Truth, opened: ActivationStore) -> None:
    rows = np.arange(ROWS)
    last = opened.gather(rows, np.full(ROWS, np.nextafter(1.0, 0.0))).acts["s3"]
    np.testing.assert_array_equal(last, [vectors[-1] for vectors in known.vectors["s3"]])


def test_rows_splits_labels_and_counts(known: Truth, opened: ActivationStore) -> None:
    assert len(opened) == ROWS
    assert [opened.row(i) for i in range(ROWS)] == known.rows
    for split in SPLITS:
        expected = [i for i, row in enumerate(known.rows) if row.split == split]
        assert opened.split(split).tolist() == expected
        assert opened.manifest.splits[split] == len(expected)
    assert opened.label_names == LABELS
    rows = np.array([5, 5, 0, 46, 11])
    labels = [[label in known.rows[i].labels for label in LABELS] for i in rows]
    np.testing.assert_array_equal(opened.labels(rows), labels)
    assert opened.labels(np.array([], np.int64)).shape == (0, 3)
    for name, per_row in known.vectors.items():
        assert opened.counts(name).tolist() == [len(vectors) for vectors in per_row]
        assert opened.manifest.vectors[name] == sum(len(vectors) for vectors in per_row)
        assert opened.manifest.present[name] == sum(len(vectors) > 0 for vectors in per_row)


def test_half_precision_comes_back_as_float32(known: Truth, tmp_path: Path) -> None:
    half = store_of(tmp_path / "s", known, 10, "float16")
    got = half.gather(np.arange(ROWS)).acts["s0"]
    assert got.dtype == np.float32
    expected = np.concatenate(known.vectors["s0"])
    np.testing.assert_array_equal(got, expected.astype(np.float16).astype(np.float32))


def test_unknown_names_and_rows(opened: ActivationStore) -> None:
    with pytest.raises(StoreError, match="no stream 'clip'; it has s0, s1, s2, s3"):
        opened.counts("clip")
    for row in (-1, ROWS):
        with pytest.raises(StoreError, match=rf"must lie in 0\.\.46, got {row}"):
            opened.gather(np.array([row]))
        with pytest.raises(StoreError, match="must lie in"):
            opened.row(row)


def test_open_maps_are_bounded(
    known: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "OPEN_MAPS", 5)
    many = store_of(tmp_path / "s", known, 1)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(2):
        many.gather(np.arange(ROWS))
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 5


def test_fingerprint_follows_contents(known: Truth, tmp_path: Path) -> None:
    first = store_of(tmp_path / "a", known, 10)
    assert store_of(tmp_path / "b", known, 10).fingerprint == first.fingerprint
    assert store_of(tmp_path / "c", truth(ROWS, COUNTS, 1), 10).fingerprint != first.fingerprint


def test_gather_takes_no_step_of_python_for_each_row(tmp_path: Path) -> None:
    opened = store_of(tmp_path / "s", truth(2000, [(1, 1)] * 3, 0), 200)
    rng = np.random.default_rng(0)

    def calls(count: int) -> int:
        """Python's and C's functions called to gather `count` random rows of all shards."""
        rows, draws, seen = rng.integers(0, 2000, count), rng.random(count), Counter[str]()
        sys.setprofile(lambda _frame, event, _what: seen.update([event]))
        try:
            opened.gather(rows, draws)
        finally:
            sys.setprofile(None)
        return seen["call"] + seen["c_call"]

    calls(200)  # opens the shards
    assert calls(1600) - calls(200) < 140  # of 1,400 rows more
