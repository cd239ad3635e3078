"""The tier in this process: exact bytes, order of use, age."""

from __future__ import annotations

import tracemalloc
from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from service.cache.local import ENTRY_BYTES, LocalTier
from tests.service.cache.codes import key


class Clock:
    """Time that tests set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


operations = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 9), st.integers(0, 1500)),
        st.tuples(st.just("get"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("wait"), st.integers(0, 40), st.just(0)),
    ),
    max_size=60,
)


@given(operations)
def test_it_does_what_a_plain_model_does(steps: list[tuple[str, int, int]]) -> None:
    clock, bound, ttl_s = Clock(), 4000, 60.0
    tier = LocalTier(bound, ttl_s, clock)
    model: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()
    for step, n, size in steps:
        if step == "wait":
            clock.now += n
        elif step == "put":
            record = bytes([n]) * size
            tier.put(key(n), record)
            model.pop(key(n), None)
            if size + ENTRY_BYTES <= bound:
                model[key(n)] = (record, clock.now + ttl_s)
            while sum(len(r) + ENTRY_BYTES for r, _ in model.values()) > bound:
                model.popitem(last=False)
        else:
            record, expires = model.get(key(n), (None, 0.0))
            if record is not None and expires <= clock.now:
                del model[key(n)]
                record = None
            elif record is not None:
                model.move_to_end(key(n))
            assert tier.get(key(n)) == record
        assert tier.bytes == sum(len(r) + ENTRY_BYTES for r, _ in model.values()) <= bound
        assert len(tier) == len(model)


def test_use_does_not_make_a_record_younger() -> None:
    clock = Clock()
    tier = LocalTier(10_000, 10, clock)
    tier.put(key(1), b"record")
    clock.now = 9.9
    assert tier.get(key(1)) == b"record"
    clock.now = 10.0
    assert tier.get(key(1)) is None
    assert tier.bytes == 0


def test_a_record_beyond_the_bound_replaces_and_evicts_nothing_else() -> None:
    tier = LocalTier(1000, 10)
    tier.put(key(1), b"1")
    tier.put(key(2), b"2" * 2000)
    assert tier.get(key(1)) == b"1"
    tier.put(key(1), b"1" * 2000)  # and an older record under its key must not stay either
    assert tier.get(key(1)) is None
    assert tier.bytes == 0


def test_entries_take_no_more_memory_than_is_counted() -> None:
    count = 20_000
    tier = LocalTier(2**30, 3600)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for n in range(count):
            tier.put(key(n), bytes(300))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.5 * tier.bytes < after - before < tier.bytes
