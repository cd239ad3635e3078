"""What people run on such windows, column by column, on counts; knows nothing of blocks.

A column is one concept, 1 where it is active. A test of such a column depends on two shares alone,
Evidently's too: `benchmarks.monitoring.evidently_scores` shows that its scores are these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple, cast

import numpy as np
import scipy.special  # pyright: ignore[reportMissingTypeStubs]
import scipy.stats  # pyright: ignore[reportMissingTypeStubs]
from jaxtyping import Bool, Float64

from benchmarks.monitoring.traffic import Fires
from koine.drift.changes import q_values

_stats = cast("Any", scipy.stats)
_special = cast("Any", scipy.special)
P, PSI_LITTLE, PSI_MUCH = 0.05, 0.1, 0.25
"""Below and above which such columns are usually taken as drifted."""
EVIDENTLY = 0.1
"""Its threshold of a Jensen-Shannon distance, from 1,000 items in the reference on."""
EVIDENTLY_SHARE = 0.5
"""Its threshold of the share of drifted columns, for a dataset."""


class Found(NamedTuple):
    """What a method says of each column."""

    flagged_C: Bool[np.ndarray, "C"]
    score_C: Float64[np.ndarray, "C"]
    """The higher, the more changed."""


Method = Callable[[Fires, Fires], Found]


def z_test(then: Fires, now: Fires) -> Found:
    """Two proportions, pooled variance; flagged below .05, as Evidently does with small ones."""
    p_C = _z(then, now)
    return Found(p_C < P, -p_C)


def z_test_corrected(then: Fires, now: Fires) -> Found:
    """The same with Benjamini and Hochberg's correction over all columns."""
    p_C = _z(then, now)
    return Found(q_values(p_C, np.ones(len(p_C), bool)) <= P, -p_C)


def kolmogorov_smirnov(then: Fires, now: Fires) -> Found:
    """Two samples; of a column of 0 and 1 the statistic is the difference of the shares."""
    a_C, b_C = _shares(then, now)
    distance_C = np.abs(a_C - b_C)
    together = round(then.items * now.items / (then.items + now.items))
    return Found(distance_C > _furthest(together), distance_C)


def psi(then: Fires, now: Fires, border: float = PSI_MUCH) -> Found:
    """Population stability index of active and not, with the usual floor of 1e-4."""
    score_C = np.zeros(len(then.fires_C))
    for flip in (False, True):
        a_C, b_C = (
            np.clip(1 - share_C if flip else share_C, 1e-4, None) for share_C in _shares(then, now)
        )
        score_C += (b_C - a_C) * np.log(b_C / a_C)
    return Found(score_C > border, score_C)


def psi_little(then: Fires, now: Fires) -> Found:
    """The same with the border above which people look closer."""
    return psi(then, now, PSI_LITTLE)


def evidently(then: Fires, now: Fires) -> Found:
    """Its default for such columns: Jensen-Shannon distance in nats of (share, 1 - share)."""
    a_C, b_C = _shares(then, now)
    nats_C = np.zeros(len(a_C))
    for p_C, q_C in ((a_C, b_C), (1 - a_C, 1 - b_C)):
        mean_C = (p_C + q_C) / 2
        nats_C += (_special.rel_entr(p_C, mean_C) + _special.rel_entr(q_C, mean_C)) / 2
    score_C = np.sqrt(np.maximum(nats_C, 0))
    return Found(score_C >= EVIDENTLY, score_C)


def dataset_drifted(found: Found) -> bool:
    """Evidently's verdict on all columns together."""
    return bool(found.flagged_C.mean() >= EVIDENTLY_SHARE)


METHODS: Mapping[str, Method] = {
    "z-test, p < .05": z_test,
    "z-test, BH": z_test_corrected,
    "KS, p < .05": kolmogorov_smirnov,
    "PSI > .1": psi_little,
    "PSI > .25": psi,
    "Evidently, 0/1": evidently,
}


@cache
def _furthest(items: int) -> float:
    return float(_stats.kstwo.isf(P, items))


def _shares(then: Fires, now: Fires) -> tuple[np.ndarray, np.ndarray]:
    return then.fires_C / then.items, now.fires_C / now.items


def _z(then: Fires, now: Fires) -> np.ndarray:
    a_C, b_C = _shares(then, now)
    pooled_C = (then.fires_C + now.fires_C) / (then.items + now.items)
    error_C = np.sqrt(pooled_C * (1 - pooled_C) * (1 / then.items + 1 / now.items))
    z_C = np.divide(b_C - a_C, error_C, out=np.zeros_like(a_C), where=error_C > 0)
    return 2 * _stats.norm.sf(np.abs(z_C))
