"""Sparse concept codes; knows nothing of how they were selected."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32

PAD = -1
"""The index that fills a row with fewer than K active concepts; its value is 0."""


class Codes(NamedTuple):
    """The codes of N items in one stream, strongest first, ties by index."""

    indices_NK: Int32[np.ndarray, "N K"]
    """Active concepts; `PAD` fills the row."""
    values_NK: Float32[np.ndarray, "N K"]
    """Activations, positive where active, 0 where padded."""
    fvu_N: Float32[np.ndarray, "N"]
    """Squared error of the item's reconstruction over its squared distance from the stream's
    mean, both for unit-norm activations: 0 perfect, 1 no better than the mean."""

    def dense(self, num_concepts: int) -> Float32[np.ndarray, "N C"]:
        """Values in their columns, zeros elsewhere."""
        dense_NC = np.zeros((len(self.indices_NK), num_concepts), np.float32)
        rows_M, slots_M = np.nonzero(self.indices_NK != PAD)
        dense_NC[rows_M, self.indices_NK[rows_M, slots_M]] = self.values_NK[rows_M, slots_M]
        return dense_NC
