"""One name for each concept, or none: where the two routes meet; reads no files, embeds nothing.

Firing chooses, since what a concept fires on finds far better names than where it points; direction
confirms. The score is the chance that a name is right, as it was found to be on held-out items: a
curve over the correlation, mean over the streams that fire (docs/naming.md has the figures).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32
from scipy.sparse import csr_array

from koine.concepts import Evidence
from training.naming.config import NamingConfig
from training.naming.firing import Fit, chances, fits
from training.naming.vocabulary import Term, preferences

SHOWN = 3
"""Candidates of a route and stream that are kept as evidence."""
SUREST = 0.99
"""The highest score: nothing measured here is certain."""
CONFIRMS = 10
"""Places of the direction's ranking within which it confirms the label."""
Directions = Mapping[str, Float32[np.ndarray, "C T"]]
"""Standardised scores of all terms, by text stream."""


class Proposal(NamedTuple):
    """What naming makes of a concept."""

    term: int | None
    """Number of the term that is its label; None where it stays unnamed."""
    best: int | None
    """The term that fits best, good enough or not; None where nothing was tried."""
    score: float
    source: str
    evidence: tuple[Evidence, ...]


def propose(
    codes: Mapping[str, csr_array],
    where: Mapping[str, csr_array],
    terms: Sequence[Term],
    directions: Directions,
    config: NamingConfig,
) -> list[Proposal]:
    """A proposal for each concept. `codes`: items × concepts and `where`: items × terms, by stream.

    Of the `both` routes, firing alone can name a concept.
    """
    found: list[Proposal] = []
    if config.routes == "direction":
        num_concepts = len(next(iter(directions.values())))
        return [_by_direction(c, terms, directions, config) for c in range(num_concepts)]
    for fit in fits(codes, where, config.min_fires):
        found += _by_firing(fit, codes, where, terms, directions, config)
    return found


def firing_score(correlation: float) -> float:
    """Chance that a name is right whose mean correlation with the concept's firing is this."""
    return float(SUREST / (1 + np.exp(-13 * (correlation - 0.18))))


def direction_score(deviations: float) -> float:
    """The same for a name that has only its direction to go by: below a half, whatever it is."""
    return float(0.45 / (1 + np.exp(-(deviations - 4.5))))


def _by_firing(
    fit: Fit,
    codes: Mapping[str, csr_array],
    where: Mapping[str, csr_array],
    terms: Sequence[Term],
    directions: Directions,
    config: NamingConfig,
) -> list[Proposal]:
    best_B = (fit.mean_BT * preferences(terms)).argmax(axis=1)
    mean_B = fit.mean_BT[np.arange(len(best_B)), best_B]
    tried = len(terms) * len(codes)
    chance_B = np.min(
        [chances(csr_array(codes[s][:, fit.concepts]), where[s], best_B) for s in codes], axis=0
    )
    found: list[Proposal] = []
    for place, best in enumerate(best_B.tolist()):
        concept = fit.concepts.start + place
        score = firing_score(mean_B[place]) if mean_B[place] > 0 else 0.0
        holds = score >= config.min_score and chance_B[place] * tried <= config.max_chance
        agreed = any(_confirms(each[concept], best) for each in directions.values())
        evidence = [
            *(e for s, fit_BT in fit.by_stream.items() for e in _fired(s, fit_BT[place], terms)),
            *(e for s, each in directions.items() for e in _pointed(s, each[concept], terms)),
        ]
        source = "firing+direction" if agreed else "firing"
        found.append(Proposal(best if holds else None, best, score, source, tuple(evidence)))
    return found


def _by_direction(
    concept: int, terms: Sequence[Term], directions: Directions, config: NamingConfig
) -> Proposal:
    mean_T = np.mean([each[concept] for each in directions.values()], axis=0)
    best = int((mean_T * preferences(terms)).argmax())
    score = direction_score(float(mean_T[best])) if mean_T[best] > 0 else 0.0
    evidence = [e for s, each in directions.items() for e in _pointed(s, each[concept], terms)]
    term = best if score >= config.min_score else None
    return Proposal(term, best, score, "direction", tuple(evidence))


def _confirms(score_T: np.ndarray, term: int) -> bool:
    return bool(score_T[term] > 0) and int((score_T > score_T[term]).sum()) < CONFIRMS


def _fired(stream: str, fit_T: np.ndarray, terms: Sequence[Term]) -> list[Evidence]:
    return [
        Evidence(route="firing", stream=stream, term=terms[t].text, score=round(float(fit_T[t]), 4))
        for t in _largest(fit_T)
    ]


def _pointed(stream: str, score_T: np.ndarray, terms: Sequence[Term]) -> list[Evidence]:
    return [
        Evidence(
            route="direction", stream=stream, term=terms[t].text, score=round(float(score_T[t]), 4)
        )
        for t in _largest(score_T)
    ]


def _largest(values_T: np.ndarray) -> list[int]:
    """The largest values that are above 0, largest first, ties by number."""
    few = np.argpartition(-values_T, min(SHOWN, len(values_T) - 1))[:SHOWN] if len(values_T) else []
    return sorted((int(t) for t in few if values_T[t] > 0), key=lambda t: (-values_T[t], t))
