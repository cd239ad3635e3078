"""Rows of a store copied into RAM or onto a device; knows no steps and no training."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from training.activations.store import ActivationStore

CHUNK_ROWS = 4096


class _Vectors(NamedTuple):
    """A stream's vectors, contiguous, and where each row's begin."""

    acts_MD: Float[Tensor, "M D"]
    starts_R: Int64[np.ndarray, "R"]
    counts_R: Int64[np.ndarray, "R"]


class Resident:
    """Some rows of a store, all their vectors, in the type that they are stored in."""

    def __init__(
        self, store: ActivationStore, rows_R: Int64[np.ndarray, "R"], device: torch.device
    ) -> None:
        assert (np.diff(rows_R) > 0).all()
        self._rows_R = rows_R
        self._streams = {
            stream.name: _load(store, stream.name, stream.d_in, rows_R, device)
            for stream in store.streams
        }

    def gather(
        self, rows_N: Int64[np.ndarray, "N"], draws_N: Float64[np.ndarray, "N"]
    ) -> dict[str, Float[Tensor, "N D"]]:
        """Float32 vectors by stream, as `ActivationStore.gather` gives them, where they lie."""
        places_N = np.searchsorted(self._rows_R, rows_N)
        acts: dict[str, Float[Tensor, "N D"]] = {}
        for name, (acts_MD, starts_R, counts_R) in self._streams.items():
            counts_N = counts_R[places_N]
            picks_N = np.minimum((draws_N * counts_N).astype(np.int64), counts_N - 1)
            found_N = starts_R[places_N] + np.maximum(picks_N, 0)
            absent_N = counts_N == 0
            found_N[absent_N] = 0
            index_N = torch.from_numpy(found_N).to(acts_MD.device)
            acts_ND = acts_MD.index_select(0, index_N).float()
            if absent_N.any():
                acts_ND[torch.from_numpy(absent_N).to(acts_MD.device)] = 0
            acts[name] = acts_ND
        return acts


def bytes_of(store: ActivationStore, rows_R: Int64[np.ndarray, "R"]) -> int:
    """Bytes that `Resident` takes for these rows, if they have as many vectors as all rows."""
    item = np.dtype(store.manifest.plan.dtype).itemsize
    whole = sum(store.manifest.vectors[s.name] * s.d_in * item for s in store.streams)
    return whole * len(rows_R) // max(1, len(store))


def _load(
    store: ActivationStore,
    name: str,
    d_in: int,
    rows_R: Int64[np.ndarray, "R"],
    device: torch.device,
) -> _Vectors:
    counts_R = store.counts(name)[rows_R]
    ends_R = counts_R.cumsum()
    dtype = getattr(torch, store.manifest.plan.dtype)
    acts_MD = torch.empty(max(1, int(ends_R[-1])), d_in, dtype=dtype, device=device)
    for start in range(0, len(rows_R), CHUNK_ROWS):
        chunk_MD = store.vectors(name, rows_R[start : start + CHUNK_ROWS])
        end = int(ends_R[min(start + CHUNK_ROWS, len(rows_R)) - 1])
        acts_MD[end - len(chunk_MD) : end] = torch.from_numpy(chunk_MD)
    return _Vectors(acts_MD, ends_R - counts_R, counts_R)
