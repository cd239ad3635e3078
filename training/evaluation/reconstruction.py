"""FVU and NMSE of reconstructions, summed over batches; knows no codes.

FVU is a ratio of sums over the evaluated rows, Σ‖û - u‖² / Σ‖u - μ‖², with μ the per-dimension
mean of the stream over the whole split; a mean of per-batch or per-item ratios is another number.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from koine.types import ActsND


class Reconstruction:
    """Running sums in float64: memory does not grow with the rows."""

    def __init__(self, widths: dict[str, int]) -> None:
        self._moments = {name: _Moments(d_in) for name, d_in in widths.items()}
        self._pairs = {f"{a}->{b}": _Pair(widths[b]) for a in widths for b in widths}

    def add_targets(self, stream: str, units_ND: ActsND, present_N: Bool[np.ndarray, "N"]) -> None:
        """Count every row that has the stream towards its mean."""
        self._moments[stream].add(units_ND[present_N])

    def add(self, source: str, target: str, units_ND: ActsND, rebuilt_ND: ActsND) -> None:
        """Count rows that have both streams: what `target` is, and `source`'s codes decode to."""
        self._pairs[f"{source}->{target}"].add(units_ND, rebuilt_ND)

    def fvu(self) -> dict[str, float | None]:
        """Fraction of variance unexplained, keyed "a->b": codes from a, stream b decoded."""
        return {
            key: pair.fvu(self._moments[key.split("->")[1]].mean_D)
            for key, pair in self._pairs.items()
        }

    def nmse(self) -> dict[str, float | None]:
        """SPARC's figure, keyed alike: the mean over items of ‖û - u‖² / ‖u‖², uncentred."""
        return {key: pair.nmse() for key, pair in self._pairs.items()}


class _Moments:
    def __init__(self, d_in: int) -> None:
        self.count = 0
        self.sum_D = np.zeros(d_in)

    def add(self, units_ND: np.ndarray) -> None:
        self.count += len(units_ND)
        self.sum_D += units_ND.sum(axis=0, dtype=np.float64)

    @property
    def mean_D(self) -> np.ndarray:
        return self.sum_D / max(1, self.count)


class _Pair(_Moments):
    def __init__(self, d_in: int) -> None:
        super().__init__(d_in)
        self._squares = self._errors = self._ratios = 0.0
        self._nonzero = 0

    def add(self, units_ND: np.ndarray, rebuilt_ND: np.ndarray) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().add(units_ND)
        units_ND = units_ND.astype(np.float64)
        squares_N = (units_ND**2).sum(axis=1)
        errors_N = ((rebuilt_ND - units_ND) ** 2).sum(axis=1)
        nonzero_N = squares_N > 0  # an activation of zeros has no scale to compare with
        self._squares += float(squares_N.sum())
        self._errors += float(errors_N.sum())
        self._ratios += float((errors_N[nonzero_N] / squares_N[nonzero_N]).sum())
        self._nonzero += int(nonzero_N.sum())

    def fvu(self, mean_D: np.ndarray) -> float | None:
        spread = self._squares - 2 * float(self.sum_D @ mean_D)
        spread += self.count * float(mean_D @ mean_D)
        # below this, what is left is the rounding of float32 activations, not variance
        return self._errors / spread if spread > 1e-10 * self._squares else None

    def nmse(self) -> float | None:
        return self._ratios / self._nonzero if self._nonzero else None
