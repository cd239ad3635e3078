"""Concepts of two dictionaries matched one to one, with a confidence; opens no file.

Evidence of a pair is the correlation of its codes over the same items and the cosine of its
decoder rows, each a mean over streams. The matching makes their summed mean largest (Hungarian
algorithm). With `level` what the best of all candidates reaches by chance (items shuffled for one
of the two dictionaries; entries of its decoder rows shuffled), the confidence of a pair is
    mean over evidence of clip((x - level) / (1 - level), 0, 1)
halved where one of the two has a better partner by the same mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array

from training.evaluation.codes import active, num_items
from training.evaluation.matched import correlation

Kind = Literal["firing", "direction"]
CHANCE_QUANTILE = 0.99
"""Of the best values that concepts reach by chance."""
AMBIGUOUS = 0.5
"""What a confidence is multiplied with where the match is not each one's best."""


class Evidence(NamedTuple):
    """One measure of how alike concepts are."""

    kind: Kind
    alike_AB: Float64[np.ndarray, "A B"]
    known_AB: Bool[np.ndarray, "A B"]
    """Where it says something: both concepts fire, or both have a direction."""
    level: float
    """What chance reaches."""


class Match(NamedTuple):
    """One concept of the old dictionary and its counterpart."""

    old: int
    new: int
    confidence: float
    firing: float | None
    """Correlation of their codes; None where it is not known."""
    direction: float | None
    """Cosine of their decoder rows."""
    mutual: bool
    """Each is the other's best."""


def firing(old: Sequence[csr_array], new: Sequence[csr_array], seed: int) -> Evidence:
    """Mean correlation of codes [N, A] and [N, B], given pair by pair of streams."""
    rng = np.random.default_rng(seed)
    order_N = rng.permutation(num_items(old[0]))
    alike = [correlation(a, b) for a, b in zip(old, new, strict=True)]
    chance = [correlation(a, b[order_N]) for a, b in zip(old, new, strict=True)]
    fires_A, fires_B = (
        np.any([np.asarray(active(x).sum(axis=0)).ravel() > 0 for x in each], axis=0)
        for each in (old, new)
    )
    known_AB = fires_A[:, None] & fires_B
    return Evidence("firing", np.mean(alike, axis=0), known_AB, _level(np.mean(chance, axis=0)))


def direction(
    old: Mapping[str, Float64[np.ndarray, "A _"]],
    new: Mapping[str, Float64[np.ndarray, "B _"]],
    seed: int,
) -> Evidence | None:
    """Mean cosine of unit decoder rows over the streams that both have; None without any."""
    shared = [name for name in old if name in new and old[name].shape[1] == new[name].shape[1]]
    if not shared:
        return None
    rng = np.random.default_rng(seed)
    alike = np.mean([old[name] @ new[name].T for name in shared], axis=0)
    chance = np.mean([old[name] @ rng.permuted(new[name], axis=1).T for name in shared], axis=0)
    has_A, has_B = (np.any([x[name].any(1) for name in shared], axis=0) for x in (old, new))
    return Evidence("direction", alike, has_A[:, None] & has_B, _level(chance))


def _level(chance_AB: Float64[np.ndarray, "A B"]) -> float:
    best = np.concatenate([chance_AB.max(0), chance_AB.max(1)])
    return float(np.clip(np.quantile(best, CHANCE_QUANTILE), 0, 1 - 1e-6))


def match(evidence: Sequence[Evidence]) -> list[Match]:
    """As many pairs as the smaller dictionary has concepts that any evidence knows, by old id."""
    count_AB = np.sum([e.known_AB for e in evidence], axis=0)
    total_AB = np.sum([np.where(e.known_AB, e.alike_AB, 0.0) for e in evidence], axis=0)
    mean_AB = np.where(count_AB > 0, total_AB / np.maximum(count_AB, 1), -1.0)
    rows_M, columns_M = linear_sum_assignment(mean_AB, maximize=True)
    best_A, best_B = mean_AB.max(1), mean_AB.max(0)
    found = []
    for a, b in zip(rows_M.tolist(), columns_M.tolist(), strict=True):
        if count_AB[a, b] == 0:
            continue
        mutual = bool(mean_AB[a, b] >= max(best_A[a], best_B[b]))
        strength = float(np.mean([_excess(e, a, b) for e in evidence if e.known_AB[a, b]]))
        found.append(
            Match(
                old=a,
                new=b,
                confidence=strength * (1.0 if mutual else AMBIGUOUS),
                firing=_value(evidence, "firing", a, b),
                direction=_value(evidence, "direction", a, b),
                mutual=mutual,
            )
        )
    return found


def _excess(e: Evidence, a: int, b: int) -> float:
    return float(np.clip((e.alike_AB[a, b] - e.level) / (1 - e.level), 0, 1))


def _value(evidence: Sequence[Evidence], kind: Kind, a: int, b: int) -> float | None:
    for e in evidence:
        if e.kind == kind and e.known_AB[a, b]:
            return float(e.alike_AB[a, b])
    return None


def shuffled(matches: Sequence[Match], seed: int) -> list[Match]:
    """The same with partners at random: what a match means without a match."""
    news = np.random.default_rng(seed).permutation([m.new for m in matches]).tolist()
    return [m._replace(new=new) for m, new in zip(matches, news, strict=True)]


def label_of_each(
    codes: Sequence[csr_array], labels_NL: Bool[np.ndarray, "N L"]
) -> Int64[np.ndarray, "C"]:
    """The label that each concept's firing, in any stream, correlates with most; -1: with none."""
    fires_NC = np.any([active(each).toarray() for each in codes], axis=0)
    phi_CL = _phi(fires_NC, labels_NL)
    best_C = phi_CL.argmax(1)
    return np.where(phi_CL.max(1) > 0, best_C, -1)


def _phi(
    a_NC: Bool[np.ndarray, "N C"], b_NL: Bool[np.ndarray, "N L"]
) -> Float64[np.ndarray, "C L"]:
    """Correlation of every column of a with every one of b; 0 where one of the two is constant."""
    a, b = (x - x.mean(0) for x in (a_NC.astype(np.float64), b_NL.astype(np.float64)))
    lengths_CL = np.outer(np.linalg.norm(a, axis=0), np.linalg.norm(b, axis=0))
    return np.divide(a.T @ b, lengths_CL, out=np.zeros(lengths_CL.shape), where=lengths_CL > 1e-9)
