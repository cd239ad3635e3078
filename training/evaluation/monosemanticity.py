"""How alike the items are that activate one concept, judged by an encoder's own embeddings.

Monosemanticity score (Pach et al. 2025, arXiv 2504.02821) of a concept with activations a_n on
items with unit-norm embeddings e_n:

    MS = Σ_{i<j} a_i a_j <e_i, e_j> / Σ_{i<j} a_i a_j

Since Σ_{ij} a_i a_j <e_i, e_j> = ‖Σ_i a_i e_i‖², it is exact in O(N·D) a concept: no pair is ever
formed. Rescaling a concept's activations does not change it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float64
from scipy.sparse import csr_array

from koine.types import ActsND, PresentNS


def scores(codes: csr_array, units_ND: ActsND) -> Float64[np.ndarray, "C"]:
    """MS of each concept; NaN where fewer than two items activate it."""
    codes = csr_array(codes.astype(np.float64))
    units_ND = units_ND.astype(np.float64)
    lengths_N = (units_ND**2).sum(axis=1)  # 1, or 0 for an activation of zeros
    sums_CD = np.asarray(codes.T @ units_ND)
    total_C = np.asarray(codes.sum(axis=0)).ravel()
    squares = codes.power(2)
    own_C = np.asarray(squares.sum(axis=0)).ravel()
    alike_C = (sums_CD**2).sum(axis=1) - np.asarray(squares.T @ lengths_N).ravel()
    pairs_C = total_C**2 - own_C
    several_C = np.bincount(codes.indices, minlength=len(sums_CD)) > 1
    return np.divide(alike_C, pairs_C, out=np.full(len(pairs_C), np.nan), where=several_C)


def chance(units_ND: ActsND) -> float | None:
    """MS of a concept that is equally active on every item: the mean similarity of two items."""
    every = csr_array(np.ones((len(units_ND), 1)))
    score = float(scores(every, units_ND)[0]) if len(units_ND) > 1 else np.nan
    return None if np.isnan(score) else score


def monosemanticity(
    codes: dict[str, csr_array], units: dict[str, ActsND], present_NS: PresentNS
) -> dict[str, dict[str, Any]]:
    """By stream: mean MS over its concepts, judged by its own encoder and by the others'.

    `own`, `own_chance`; `other`, `other_chance`: means over the other streams' encoders, on items
    that have both (null with one stream); `concepts`: how many fire on two items or more.
    """
    present = {name: present_NS[:, column] for column, name in enumerate(codes)}
    return {name: _of_stream(name, codes[name], units, present) for name in codes}


def _of_stream(
    name: str,
    codes: csr_array,
    units: dict[str, ActsND],
    present: dict[str, Bool[np.ndarray, "N"]],
) -> dict[str, Any]:
    judged: dict[str, tuple[float | None, float | None, int]] = {}
    for judge, units_ND in units.items():
        both_N = present[name] & present[judge]
        score_C = scores(codes[both_N], units_ND[both_N])
        known_M = score_C[~np.isnan(score_C)]
        mean = float(known_M.mean()) if len(known_M) else None
        judged[judge] = (mean, chance(units_ND[both_N]), len(known_M))
    own, own_chance, concepts = judged.pop(name)
    return {
        "own": own,
        "own_chance": own_chance,
        "other": _mean([score for score, _, _ in judged.values()]),
        "other_chance": _mean([by_chance for _, by_chance, _ in judged.values()]),
        "concepts": concepts,
    }


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
