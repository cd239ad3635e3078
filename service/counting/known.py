"""Which items were counted before in a window: by eight bytes of each; counts nothing."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, UInt64

MOST = 2**22
"""Items that are remembered (32 MiB); beyond, equal ones count again."""


class Known:
    """Grows with a window and goes with it."""

    def __init__(self) -> None:
        self._sorted_M = np.zeros(0, np.uint64)

    @property
    def full(self) -> bool:
        """Whether no more are remembered."""
        return len(self._sorted_M) >= MOST

    def first(self, keys_N: UInt64[np.ndarray, "N"]) -> Bool[np.ndarray, "N"]:
        """Which of these come for the first time; they are known from now on."""
        unique_U, at_U = np.unique(keys_N, return_index=True)
        place_U = np.searchsorted(self._sorted_M, unique_U)
        new_U = np.ones(len(unique_U), bool)
        inside_U = place_U < len(self._sorted_M)
        new_U[inside_U] = self._sorted_M[place_U[inside_U]] != unique_U[inside_U]
        first_N = np.zeros(len(keys_N), bool)
        first_N[at_U[new_U]] = True
        if not self.full:
            self._sorted_M = np.insert(self._sorted_M, place_U[new_U], unique_U[new_U])
        return first_N
