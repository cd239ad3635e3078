"""When a request is sent again: deadlines, back-off, a budget; neither sends nor sleeps.

`attempts` is a generator: it yields what to do (`Send`, `Wait`) and is sent what came of it, so
that threads and event loops share it.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from koine.client.calls import Call
from koine.client.errors import Failure
from koine.errors import DeadlineError, KoineError

BASE_S, CAP_S = 0.1, 8.0
"""The most that the first wait and any wait add to what the service asks for."""
SPREAD = 0.25
"""Share of what the service asks for that is added at random: it tells all clients the same."""


class Send(NamedTuple):
    """Send this and say what came back."""

    call: Call
    timeout_s: float


class Wait(NamedTuple):
    """Do nothing for a while."""

    seconds: float


Steps = Generator[Send | Wait, Any, Any]
"""Takes an answer, a `Failure`, or None after a wait; returns the answer of the whole."""


class Deadline:
    """A point in time after which nobody waits any more."""

    def __init__(self, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.timeout_s = timeout_s
        self._clock = clock
        self._end = clock() + timeout_s

    @property
    def left_s(self) -> float:
        """Seconds until then; negative after it."""
        return self._end - self._clock()

    @property
    def spent_s(self) -> float:
        """Seconds since it was set."""
        return self.timeout_s - self.left_s


class Budget:
    """How many retries a client may add to the load that it makes anyway.

    A bucket of `reserve` tokens: a retry takes one, a request puts `share` back, and a second puts
    one back. So in t seconds n requests are retried at most share·n + reserve + t times, whatever
    `retries` would allow: a fleet of clients does not turn a fault into an outage.
    """

    def __init__(
        self,
        share: float = 0.2,
        reserve: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._share, self._reserve, self._clock = share, reserve, clock
        self._tokens = reserve
        self._then = clock()
        self._lock = threading.Lock()

    def request(self) -> None:
        """Counts a request that is no retry."""
        with self._lock:
            self._add(self._share)

    def take(self) -> bool:
        """Whether one more retry is allowed; counts it."""
        with self._lock:
            now = self._clock()
            self._add(now - self._then)
            self._then = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True

    def _add(self, tokens: float) -> None:
        self._tokens = min(self._reserve, self._tokens + tokens)


@dataclass(frozen=True, slots=True)
class Policy:
    """How a client retries."""

    retries: int = 4
    """Per request, after the first try."""
    budget: Budget = field(default_factory=Budget)
    draw: Callable[[float, float], float] = random.uniform


def backoff_s(n: int, retry_after_s: float | None, draw: Callable[[float, float], float]) -> float:
    """Seconds to wait after the n-th failed try, from 0.

    "Full jitter", uniform in [0, min(cap, base · 2^n)], on top of what the service asked for,
    and over at least a quarter of that.
    """
    asked_s = retry_after_s or 0.0
    return asked_s + draw(0.0, max(SPREAD * asked_s, min(CAP_S, BASE_S * 2.0 ** min(n, 32))))


def attempts(call: Call, policy: Policy, deadline: Deadline) -> Steps:
    """The answer to a call, tried again where that may help; ends within `deadline`.

    Raises what went wrong in the last try, `DeadlineError` where time was up before.
    """
    policy.budget.request()
    last: KoineError | None = None
    for n in itertools.count():
        left_s = deadline.left_s
        if left_s <= 0:
            raise _too_late(deadline, last)
        outcome = yield Send(call, left_s)
        if not isinstance(outcome, Failure):
            return outcome
        last = outcome.error
        if not outcome.retry:
            raise last
        wait_s = backoff_s(n, outcome.retry_after_s, policy.draw)
        if n >= policy.retries:
            raise _given_up(last, f"all {n + 1} tries failed", deadline)
        if wait_s >= deadline.left_s:
            raise _given_up(last, f"no time is left for a try after {wait_s:.3g} s", deadline)
        if not policy.budget.take():
            raise _given_up(last, "this client's retry budget is used up", deadline)
        yield Wait(wait_s)
    raise AssertionError  # the loop has no end of its own


def _given_up(error: KoineError, why: str, deadline: Deadline) -> KoineError:
    error.add_note(f"gave up after {deadline.spent_s:.3g} of {deadline.timeout_s:.3g} s: {why}")
    return error


def _too_late(deadline: Deadline, last: KoineError | None) -> DeadlineError:
    told = f"; the last try ended with: {last}" if last is not None else ""
    return DeadlineError(
        f"no answer within {deadline.timeout_s:.3g} s{told}; give more time (`timeout`), or use "
        "`encode_stream`, which has that time for each request"
    )
