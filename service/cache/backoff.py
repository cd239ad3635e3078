"""How long to leave a dependency alone after it failed; waits for nothing itself."""

from __future__ import annotations

import random

FIRST_S = 0.1
LONGEST_S = 5.0


class Backoff:
    """Pauses that double, with jitter, so that workers do not come back all at once."""

    def __init__(self) -> None:
        self._failures = 0

    def next_s(self) -> float:
        """The pause after one more failure: between half of it and the whole."""
        pause_s = min(LONGEST_S, FIRST_S * 2 ** min(self._failures, 32))
        self._failures += 1
        return pause_s * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """It works again: the next pause is the first."""
        self._failures = 0
