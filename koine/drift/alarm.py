"""When verdicts become an alarm: several of the last windows must have drifted; keeps no time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from koine.drift.verdict import State

Alarm = Literal["quiet", "warning", "alarm"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AlarmConfig:
    """How persistent drift must be."""

    needed: int = 3
    """Windows with drift that make an alarm…"""
    of: int = 4
    """…among this many of the latest that had a verdict."""

    def __post_init__(self) -> None:
        if not 1 <= self.needed <= self.of:
            raise ValueError(f"`needed` lies between 1 and `of` ({self.of}), got {self.needed}")


def alarm(states: Sequence[State], config: AlarmConfig) -> Alarm:
    """From the states of a stream's windows, oldest first.

    Windows without a verdict neither raise an alarm nor end one: silence is no good news.
    """
    judged = [state for state in states if state in ("ok", "drift")][-config.of :]
    drifted = judged.count("drift")
    if drifted >= config.needed:
        return "alarm"
    return "warning" if judged and judged[-1] == "drift" else "quiet"
