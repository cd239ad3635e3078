"""What concepts have to do with labels; reads counts from `latents.Firing`, no codes."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float64

from training.evaluation.latents import Firing

MIN_FIRES = 5
"""Held-out firings below which a concept's purity is left out: of one item it is 0 or 1."""
BLOCK = 1024
"""Concepts whose label histograms are compared at once; bounds memory."""


def label_jaccard(firing: Firing) -> dict[str, float | None]:
    """The paper's concept Jaccard: do the streams' versions of a latent mean the same labels?

    A latent's histogram counts the labels of the items where it is active. Two streams score
    Σ min / Σ max over the labels; a latent scores the mean over pairs of streams whose histogram
    is not empty. "all": mean over all latents, those with fewer than two such streams counting
    0; "alive": mean over the others alone, null where there are none.
    """
    score_C, alive_C = _label_scores(firing)
    return {
        "all": float(np.where(alive_C, score_C, 0.0).mean()),
        "alive": float(score_C[alive_C].mean()) if alive_C.any() else None,
    }


def _label_scores(firing: Firing) -> tuple[np.ndarray, np.ndarray]:
    names = firing.streams
    num_concepts = len(firing.fires[names[0]])
    sums_C, pairs_C = np.zeros(num_concepts), np.zeros(num_concepts, np.int64)
    for start in range(0, num_concepts, BLOCK):
        block = slice(start, start + BLOCK)
        for a, b in combinations(names, 2):
            count_a, count_b = firing.with_label[a][block], firing.with_label[b][block]
            alive_M = count_a.any(axis=1) & count_b.any(axis=1)
            least_M = np.minimum(count_a, count_b).sum(axis=1)
            most_M = np.maximum(count_a, count_b).sum(axis=1)
            sums_C[block] += np.where(alive_M, least_M / np.maximum(1, most_M), 0.0)
            pairs_C[block] += alive_M
    return sums_C / np.maximum(1, pairs_C), pairs_C > 0


def label_recovery(
    train: Firing, held_out: Firing, label_names: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    """How well one concept stands for each label.

    For each stream and label the concept that fits best on the training rows (Jaccard between
    "active" and "labelled"; F1 = 2J / (1 + J) has the same winner) is measured on the held-out
    rows. Labels that either set of rows lacks are left out.
    """
    return {name: _recovery(train, held_out, label_names, name) for name in train.streams}


def _recovery(
    train: Firing, held_out: Firing, label_names: tuple[str, ...], stream: str
) -> dict[str, Any]:
    best_L = _set_jaccard(train, stream).argmax(axis=0)
    entries = []
    for label, name in enumerate(label_names):
        positives = int(held_out.labelled[stream][label])
        if positives == 0 or train.labelled[stream][label] == 0:
            continue
        concept = int(best_L[label])
        shared = int(held_out.with_label[stream][concept, label])
        together = int(held_out.fires[stream][concept]) + positives
        jaccard, f1 = shared / (together - shared), 2 * shared / together
        entry = {"label": name, "concept": concept, "jaccard": jaccard, "f1": f1}
        entries.append(entry | {"positives": positives})
    entries.sort(key=lambda entry: (-entry["jaccard"], entry["label"]))
    return {
        "mean_jaccard": float(np.mean([e["jaccard"] for e in entries])) if entries else None,
        "mean_f1": float(np.mean([e["f1"] for e in entries])) if entries else None,
        "labels": entries,
    }


def label_purity(train: Firing, held_out: Firing) -> dict[str, dict[str, Any]]:
    """How often a concept's firings carry the label that it carries most on the training rows.

    By stream: `mean` over the concepts that fire on MIN_FIRES held-out rows or more, `chance`, the
    mean share of held-out rows that have those concepts' labels anyhow, and `concepts`, how many.
    The label is chosen on other rows: chosen on the same ones, rare concepts would seem pure.
    """
    return {name: _purity(train, held_out, name) for name in train.streams}


def _purity(train: Firing, held_out: Firing, stream: str) -> dict[str, Any]:
    fires_C = held_out.fires[stream]
    counted_M = np.flatnonzero((fires_C >= MIN_FIRES) & train.with_label[stream].any(axis=1))
    if len(counted_M) == 0:
        return {"mean": None, "chance": None, "concepts": 0}
    label_M = train.with_label[stream][counted_M].argmax(axis=1)
    pure_M = held_out.with_label[stream][counted_M, label_M] / fires_C[counted_M]
    rate_L = held_out.labelled[stream] / held_out.rows[stream]
    return {
        "mean": float(pure_M.mean()),
        "chance": float(rate_L[label_M].mean()),
        "concepts": len(counted_M),
    }


def _set_jaccard(firing: Firing, stream: str) -> Float64[np.ndarray, "C L"]:
    shared_CL = firing.with_label[stream]
    union_CL = firing.fires[stream][:, None] + firing.labelled[stream] - shared_CL
    return shared_CL / np.maximum(1, union_CL)
