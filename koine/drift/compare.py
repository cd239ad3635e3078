"""Two profiles of a dictionary, stream by stream, and what the streams tell together.

Where one stream's concepts moved and the others, which looked at the same world, show that theirs
did not, the stream's encoder or its inputs changed, not the world.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from koine.drift.changes import Changes
from koine.drift.means import MeanCounts
from koine.drift.verdict import DriftConfig, Statistic, Verdict, agreement_statistic, judge
from koine.errors import RequestError
from koine.profile import Profile

SURE = 2.33
"""Standard errors beyond which a movement lies once in a hundred times."""

Where = Literal["nowhere", "world", "stream", "unclear"]


class Comparison(NamedTuple):
    """A window beside its reference."""

    streams: Mapping[str, Verdict]
    agreement: Mapping[str, Statistic]
    """By "a|b", for pairs that both profiles have items of."""
    where: Where
    """`world`: streams changed alike; `stream`: one did and others show that they did not."""
    only: str | None
    """That stream."""


def compare(reference: Profile, window: Profile, config: DriftConfig) -> Comparison:
    """Raises `RequestError` where the profiles are of different dictionaries."""
    if reference.dictionary != window.dictionary:
        raise RequestError(
            f"the reference is a profile of {reference.dictionary}, the window of "
            f"{window.dictionary}; their concepts are not the same ones. Profile both with one"
        )
    verdicts = {
        name: judge(reference.streams.get(name), stream, config)
        for name, stream in window.streams.items()
    }
    agreement = {
        pair: agreement_statistic(reference.agreement[pair], counts, config)
        for pair, counts in window.agreement.items()
        if counts.items and reference.agreement.get(pair, MeanCounts()).items
    }
    where, only = _where(verdicts)
    return Comparison(verdicts, agreement, where, only)


def _where(verdicts: Mapping[str, Verdict]) -> tuple[Where, str | None]:
    judged = {name: v.changes for name, v in verdicts.items() if v.changes is not None}
    moved = {name: c for name, c in judged.items() if c.changed_C.any()}
    if not moved:
        drifted = [name for name, v in verdicts.items() if v.state == "drift"]
        return ("unclear" if drifted else "nowhere"), None
    shared = sum(
        bool(_alike(a, b).any())
        for i, a in enumerate(moved.values())
        for b in list(moved.values())[i + 1 :]
    )
    if shared:
        return "world", None
    name, changes = max(moved.items(), key=lambda each: int(each[1].changed_C.sum()))
    others = [each for other, each in judged.items() if other != name]
    stayed = [_stayed(changes, other) for other in others]
    if len(moved) == 1 and stayed and all(stayed):
        return "stream", name
    return "unclear", None


def _alike(a: Changes, b: Changes) -> np.ndarray:
    """Concepts that changed in both, in the same direction."""
    return a.changed_C & b.changed_C & ((a.ratio_C > 1) == (b.ratio_C > 1))


def _stayed(changed: Changes, other: Changes) -> bool:
    """Whether the other stream surely moved less than half as far, in the logarithm, over all
    changed concepts together, each weighed by how sure it is there."""
    at = changed.changed_C
    weight_M = 1 / other.error_C[at] ** 2
    toward_M = np.sign(np.log(changed.ratio_C[at]))
    moved, followed = (
        float(np.average(toward_M * np.log(each.ratio_C[at]), weights=weight_M))
        for each in (changed, other)
    )
    return followed + SURE / float(weight_M.sum()) ** 0.5 < moved / 2
