"""Tails of distributions, by scipy, with types; tests nothing."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import scipy.special  # pyright: ignore[reportMissingTypeStubs]
import scipy.stats  # pyright: ignore[reportMissingTypeStubs]

_special = cast("Any", scipy.special)
_stats = cast("Any", scipy.stats)


def beta_tail(a_C: np.ndarray, b_C: np.ndarray, share_C: np.ndarray) -> np.ndarray:
    """I_share(a, b): how likely a binomial of a + b - 1 tries with chance `share` reaches a."""
    return _special.betainc(a_C, b_C, share_C)


def beta_quantile(a_C: np.ndarray, b_C: np.ndarray, which: float) -> np.ndarray:
    """The share at which `beta_tail` is `which`."""
    return _special.betaincinv(a_C, b_C, which)


def student_tail(t: float, freedom: float) -> float:
    """How likely Student's t is above `t`."""
    return float(_stats.t.sf(t, freedom))


def student_quantile(which: float, freedom: float) -> float:
    """The t that a share `which` stays below."""
    return float(_stats.t.ppf(which, freedom))


def relative_entropy(p_C: np.ndarray, q_C: np.ndarray) -> float:
    """Σ p log (p / q), in nats."""
    return float(_special.rel_entr(p_C, q_C).sum())
