"""Whether several seeds find the same concepts: decoder rows matched one to one between runs.

Mean cosine of decoder rows under the best one-to-one matching (Hungarian algorithm; Fel et al.
2025, arXiv 2502.12892), per stream, mean over pairs of seeds. Vectors of equal dimension are never
all orthogonal, so read it beside the value of untrained dictionaries.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float64
from scipy.optimize import linear_sum_assignment

from training.evaluation.encoding import Dictionary, device_of
from training.model import TopK

MAX_CONCEPTS = 4096
"""Concepts of the first run that are matched with all of the other's; evenly spread."""


def stability(models: Sequence[Dictionary]) -> dict[str, float | None]:
    """By stream and their "mean"; None for fewer than two dictionaries."""
    if len(models) < 2:
        return {**dict.fromkeys(models[0].streams if models else ()), "mean": None}
    found: dict[str, float] = {}
    for name in models[0].streams:
        rows = [decoder_rows(model, name) for model in models]
        found[name] = float(np.mean([matched_cosine(a, b) for a, b in combinations(rows, 2)]))
    return {**found, "mean": float(np.mean(list(found.values())))}


def matched_cosine(a_CD: Float64[np.ndarray, "A D"], b_CD: Float64[np.ndarray, "B D"]) -> float:
    """Mean cosine of unit rows under the matching that makes it largest."""
    a_CD = a_CD[:: -(-len(a_CD) // MAX_CONCEPTS)]
    cosine_AB = a_CD @ b_CD.T
    return float(cosine_AB[linear_sum_assignment(cosine_AB, maximize=True)].mean())


def decoder_rows(model: Dictionary, name: str) -> Float64[np.ndarray, "C D"]:
    """Each concept's direction in a stream: what one unit of it adds to a reconstruction."""
    device = device_of(model)
    concepts_C1 = torch.arange(model.config.num_concepts, device=device)[:, None]
    ones_C1 = torch.ones_like(concepts_C1, dtype=torch.float32)
    nothing_1D = model.decode(name, TopK(concepts_C1[:1], ones_C1[:1] * 0))
    rows_CD = (model.decode(name, TopK(concepts_C1, ones_C1)) - nothing_1D).double().cpu().numpy()
    lengths_C = np.linalg.norm(rows_CD, axis=1, keepdims=True)
    return rows_CD / np.where(lengths_C > 0, lengths_C, 1.0)
