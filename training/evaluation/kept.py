"""Codes of a bounded sample of rows, kept whole for metrics that need them all at once."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int64
from scipy.sparse import csr_array, vstack

from koine.types import Mode, PresentNS
from training.evaluation.encoding import Encoded


class Kept:
    """The kept rows of one mode, in the order in which they came."""

    def __init__(self, streams: tuple[str, ...]) -> None:
        self.streams = streams
        self.count = 0
        self._codes: dict[str, list[csr_array]] = {name: [] for name in streams}
        self._present: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []

    def add(self, batch: Encoded, mode: Mode, wanted_N: Bool[np.ndarray, "N"]) -> None:
        """Keep the wanted rows of a batch."""
        for name in self.streams:
            self._codes[name].append(batch.sparse[mode][name][wanted_N])
        self._present.append(batch.present_NS[wanted_N])
        self._rows.append(batch.rows_N[wanted_N])
        self.count += int(wanted_N.sum())

    def codes(self) -> dict[str, csr_array]:
        """By stream, in one piece."""
        for name, parts in self._codes.items():
            if len(parts) > 1:
                self._codes[name] = [csr_array(vstack(parts))]
        return {name: parts[0] for name, parts in self._codes.items()}

    def present(self) -> PresentNS:
        """Which kept row has which stream."""
        return np.concatenate(self._present)

    def rows(self) -> Int64[np.ndarray, "N"]:
        """Row numbers in the store."""
        return np.concatenate(self._rows)
