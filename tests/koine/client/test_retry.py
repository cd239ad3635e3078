"""Laws of waiting and retrying, without a network or a clock."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koine.client.calls import GetInfo
from koine.client.errors import Failure, type_of
from koine.client.retry import (
    BASE_S,
    CAP_S,
    SPREAD,
    Budget,
    Deadline,
    Policy,
    Send,
    Wait,
    attempts,
    backoff_s,
)
from koine.client.wire_json import retry_after_s, timings_of
from koine.errors import DeadlineError, KoineError, OverloadedError, RequestError
from service.errors import STATUS, error_type

Outcome = Failure | str


class Clock:
    """Time that passes only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def play(
    outcomes: Callable[[int], Outcome],
    *,
    clock: Clock,
    policy: Policy,
    timeout_s: float = 30.0,
    seconds_each: float = 0.0,
) -> tuple[str | KoineError, list[float], list[float]]:
    """The end of `attempts`, how long each try was given, and the waits between them."""
    steps = attempts(GetInfo(), policy, Deadline(timeout_s, clock))
    tries: list[float] = []
    waits: list[float] = []
    outcome: Outcome | None = None
    while True:
        try:
            step = steps.send(outcome)
        except StopIteration as end:
            return end.value, tries, waits
        except KoineError as error:
            return error, tries, waits
        if isinstance(step, Wait):
            waits.append(step.seconds)
            clock.now += step.seconds
            outcome = None
        else:
            assert isinstance(step, Send)
            tries.append(step.timeout_s)
            clock.now += min(step.timeout_s, seconds_each)
            outcome = outcomes(len(tries) - 1)


def overloaded(after_s: float | None = None) -> Failure:
    return Failure(OverloadedError("full"), retry=True, retry_after_s=after_s)


@given(n=st.integers(0, 10_000), seed=st.integers())
def test_jitter_is_full_and_bounded(n: int, seed: int) -> None:
    wait_s = backoff_s(n, None, random.Random(seed).uniform)
    assert 0 <= wait_s <= min(CAP_S, BASE_S * 2.0 ** min(n, 100))


@given(after_s=st.floats(1e-3, 1e6), n=st.integers(0, 50), seed=st.integers())
def test_a_named_wait_is_never_cut_short(after_s: float, n: int, seed: int) -> None:
    wait_s = backoff_s(n, after_s, random.Random(seed).uniform)
    most_s = max(SPREAD * after_s, min(CAP_S, BASE_S * 2.0**n))
    assert after_s <= wait_s <= after_s + most_s


def test_jitter_reaches_both_ends() -> None:
    waits = [backoff_s(2, None, random.Random(seed).uniform) for seed in range(400)]
    assert min(waits) < 0.02 * BASE_S * 4
    assert max(waits) > 0.98 * BASE_S * 4


@given(
    events=st.lists(st.tuples(st.booleans(), st.floats(0, 3)), max_size=300),
    share=st.floats(0, 1),
)
def test_retries_stay_within_the_budget(events: list[tuple[bool, float]], share: float) -> None:
    clock = Clock()
    budget = Budget(share=share, reserve=10.0, clock=clock)
    start, requests, retries = clock.now, 0, 0
    for is_request, passed in events:
        clock.now += passed
        if is_request:
            budget.request()
            requests += 1
        else:
            retries += budget.take()
        assert retries <= share * requests + 10 + (clock.now - start) + 1e-6


def test_a_budget_refills() -> None:
    clock = Clock()
    budget = Budget(clock=clock)
    assert [budget.take() for _ in range(12)] == [True] * 10 + [False] * 2
    for _ in range(6):
        budget.request()
    assert [budget.take(), budget.take()] == [True, False]
    clock.now += 3
    assert [budget.take() for _ in range(4)] == [True] * 3 + [False]


@given(
    afters=st.lists(st.none() | st.floats(0, 5), min_size=8, max_size=8),
    each=st.floats(0, 4),
    timeout_s=st.floats(0.01, 20),
    retries=st.integers(0, 7),
    seed=st.integers(),
)
def test_tries_and_waits_end_within_the_deadline(
    afters: list[float | None], each: float, timeout_s: float, retries: int, seed: int
) -> None:
    clock = Clock()
    start = clock.now
    policy = Policy(retries, Budget(clock=clock), random.Random(seed).uniform)
    end, tries, waits = play(
        lambda n: overloaded(afters[n]),
        clock=clock, policy=policy, timeout_s=timeout_s, seconds_each=each,
    )  # fmt: skip
    assert isinstance(end, OverloadedError | DeadlineError)
    assert clock.now - start <= timeout_s + 1e-6
    assert 1 <= len(tries) <= retries + 1
    assert tries == sorted(tries, reverse=True)
    assert all(wait >= (after or 0) for wait, after in zip(waits, afters, strict=False))


def test_what_may_not_be_retried_is_tried_once() -> None:
    refused = Failure(RequestError("bad"))
    end, tries, waits = play(lambda n: refused, clock=Clock(), policy=Policy())
    assert (end, len(tries), waits) == (refused.error, 1, [])


def test_success_after_failures() -> None:
    end, tries, waits = play(
        lambda n: "done" if n == 3 else overloaded(), clock=Clock(), policy=Policy()
    )
    assert (end, len(tries), len(waits)) == ("done", 4, 3)


def test_the_end_says_why() -> None:
    for policy, after_s, why in (
        (Policy(2), None, "all 3 tries failed"),
        (Policy(), 40.0, "no time is left"),
        (Policy(budget=Budget(reserve=0.0)), None, "retry budget is used up"),
    ):
        refused = overloaded(after_s)
        end, _, _ = play(lambda n, told=refused: told, clock=Clock(), policy=policy)
        assert isinstance(end, OverloadedError)
        assert why in end.__notes__[0]


def test_a_wait_that_outlasts_the_deadline_is_not_begun() -> None:
    clock = Clock()
    start = clock.now
    end, tries, waits = play(lambda n: overloaded(31.0), clock=clock, policy=Policy())
    assert isinstance(end, OverloadedError)
    assert (clock.now - start, len(tries), waits) == (0, 1, [])


@pytest.mark.parametrize("kind", STATUS)
def test_types_are_the_services_own(kind: type[KoineError]) -> None:
    assert type_of(kind("x")) == error_type(kind("x"))


def test_retry_after_in_all_its_forms() -> None:
    assert retry_after_s({"retry-after": "3"}) == 3
    assert retry_after_s({"retry-after": "3", "retry-after-ms": "250"}) == 0.25
    assert retry_after_s({"retry-after": "Fri, 01 Jan 2100 00:00:00 GMT"}) > 1e9  # pyright: ignore
    assert retry_after_s({"retry-after": "Fri, 01 Jan 1999 00:00:00 GMT"}) == 0
    for odd in ("", "soon", "-1", "nan", "inf", "9" * 400):
        assert retry_after_s({"retry-after": odd}) is None
    assert retry_after_s({}) is None


def test_server_timing_that_is_odd_is_no_fault() -> None:
    assert timings_of("read;dur=1.5, total;dur=20, cdn;dur=3").total == 0.02
    assert timings_of("total;dur=1.2.3, read;dur=., decode").total == 0
