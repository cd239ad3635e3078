"""Which concepts point the same way; names none of them."""

from __future__ import annotations

import numpy as np

from training.evaluation.stability import decoder_rows
from training.model import AlignedDictionary

BLOCK = 1024
"""Concepts whose neighbours are looked for at once; bounds memory."""


def nearest_concepts(model: AlignedDictionary, most: int) -> list[tuple[int, ...]]:
    """For each concept the others whose decoder rows are most alike, most alike first.

    By cosine, mean over the streams; only those above 0.
    """
    rows = [decoder_rows(model, name).astype(np.float32) for name in model.streams]
    num_concepts = model.config.num_concepts
    most = min(most, num_concepts - 1)
    found: list[tuple[int, ...]] = []
    for start in range(0, num_concepts, BLOCK):
        block = np.arange(start, min(start + BLOCK, num_concepts))
        cosine_BC = sum((each[block] @ each.T for each in rows), np.zeros(1)) / len(rows)
        cosine_BC[np.arange(len(block)), block] = -1.0
        best_BM = np.argsort(-cosine_BC, axis=1, kind="stable")[:, :most]
        for place, best_M in enumerate(best_BM):
            found.append(tuple(int(c) for c in best_M if cosine_BC[place, c] > 0))
    return found
