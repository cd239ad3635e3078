"""Reconstruction on validation rows, joint and independent: what decides which weights are kept."""

from __future__ import annotations

from typing import TypeVar, get_args

import numpy as np
import torch
from jaxtyping import Int64

from koine.types import Mode
from training.activations.store import ActivationStore
from training.model import AlignedDictionary
from training.parallel import ALONE, Group
from training.unit import unit

CHUNK_ROWS = 1024

K = TypeVar("K")


def validate(
    model: AlignedDictionary,
    store: ActivationStore,
    rows: Int64[np.ndarray, "R"],
    device: torch.device,
    group: Group = ALONE,
) -> dict[str, float]:
    """FVU of self and cross reconstruction for both modes, each a mean over streams or pairs.

    A ratio of sums over all rows, about the training mean, for unit-norm activations. Each worker
    of `group` reads its part of the rows; all get the same figures.
    """
    rows = rows[group.rank :: group.size]
    names = model.streams
    error = {(mode, s, t): 0.0 for mode in get_args(Mode) for s in names for t in names}
    spread = dict.fromkeys([(s, t) for s in names for t in names], 0.0)
    for start in range(0, len(rows), CHUNK_ROWS):
        batch = store.gather(rows[start : start + CHUNK_ROWS], None)
        acts = {n: torch.from_numpy(x).to(device) for n, x in batch.acts.items()}
        present_NS = torch.from_numpy(batch.present_NS).to(device)
        both = {
            (s, t): present_NS[:, names.index(s)] & present_NS[:, names.index(t)] for s, t in spread
        }
        for (s, t), both_N in both.items():
            distance_N = (unit(acts[t]) - model.of(t).mean_D).square().sum(1)
            spread[s, t] += float(distance_N[both_N].sum())
        for mode in get_args(Mode):
            codes = model.encode(acts, mode, present_NS)
            for (s, t), both_N in both.items():
                error_N = (model.decode(t, codes[s]) - unit(acts[t])).square().sum(1)
                error[mode, s, t] += float(error_N[both_N].sum())
    error, spread = _summed(error, group), _summed(spread, group)
    scores = {}
    for mode in get_args(Mode):
        for kind, is_self in (("self", True), ("cross", False)):
            pairs = [p for p in spread if (p[0] == p[1]) == is_self and spread[p] > 0]
            if pairs:
                fvus = [error[mode, *pair] / spread[pair] for pair in pairs]
                scores[f"fvu_{kind}_{mode}"] = float(np.mean(fvus))
    return scores


def _summed(sums: dict[K, float], group: Group) -> dict[K, float]:
    whole = group.sum(torch.tensor(list(sums.values()), dtype=torch.float64))
    return dict(zip(sums, whole.tolist(), strict=True))
