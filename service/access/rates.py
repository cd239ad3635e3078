"""How much a key may still send: token buckets; knows neither keys nor requests."""

from __future__ import annotations


class Bucket:
    """Fills at `per_minute` up to one minute's worth; times are seconds of one steady clock.

    A full bucket lets any amount through and owes the rest: what is larger than a minute's worth
    is served and then waited for, where a strict bucket would refuse it for ever.
    """

    __slots__ = ("_level", "_then", "per_minute")

    def __init__(self, per_minute: float, now: float) -> None:
        self.per_minute = per_minute
        self._level = per_minute
        self._then = now

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until `amount` may be taken; 0 where it may be now. Takes nothing."""
        self._fill(now)
        missing = min(amount, self.per_minute) - self._level
        # what is missing by rounding alone is there
        return missing * 60 / self.per_minute if missing > 1e-9 * self.per_minute else 0.0

    def take(self, amount: float) -> None:
        """Takes what `wait_s` has let through."""
        self._level -= amount

    def refit(self, per_minute: float, now: float) -> None:
        """Changes the rate and keeps what is owed."""
        self._fill(now)
        self.per_minute = per_minute
        self._level = min(self._level, per_minute)

    def _fill(self, now: float) -> None:
        grown = self._level + (now - self._then) * self.per_minute / 60
        self._level = min(grown, self.per_minute)
        self._then = now
