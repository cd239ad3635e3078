"""How well a new stream agrees with the existing ones and rebuilds; fits and chooses nothing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from training.activations.store import ActivationStore
from training.extension.teacher import Taught, existing, taught
from training.kernels.sparse import Support
from training.model import AlignedDictionary, TopK, select, weighted_rows

CHUNK_ROWS = 1024


class Judged(NamedTuple):
    """Means over pairs and existing streams, independent encoding, on normalised activations."""

    agreement: float
    """Jaccard of what the new stream and an existing one select, adjusted for chance."""
    fvu_self: float
    fvu_cross: float
    """From the new stream to existing ones and back."""

    @property
    def value(self) -> float:
        """What is chosen by: agreement less the mean of the two errors, larger is better."""
        return self.agreement - (self.fvu_self + self.fvu_cross) / 2


class Judge:
    """Pairs that were kept out, with what the existing streams make of them."""

    def __init__(
        self,
        model: AlignedDictionary,
        store: ActivationStore,
        stream: str,
        rows_N: Int64[np.ndarray, "N"],
    ) -> None:
        self._stream = stream
        parts = range(0, len(rows_N), CHUNK_ROWS)
        self._parts = [
            taught(model, store, stream, rows_N[start : start + CHUNK_ROWS]) for start in parts
        ]

    @torch.no_grad()
    def look(self, model: AlignedDictionary) -> Judged:
        """The figures of a model whose new stream has changed."""
        others = existing(model, self._stream)
        jaccard = torch.zeros(2, len(others), 2, dtype=torch.float64)
        sums = torch.zeros(2, 2, dtype=torch.float64)
        for part in self._parts:
            own = own_codes(model, self._stream, part.z_ND)
            jaccard += _jaccards(part, own, model.config.num_concepts)
            sums[0] += _errors(model, self._stream, own, part.z_ND)
            for column, name in enumerate(others):
                here_N = part.present_NS[:, column]
                if here_N.any():
                    theirs = TopK(*(x[here_N] for x in part.own[name]))
                    mine = TopK(*(x[here_N] for x in own))
                    sums[1] += _errors(model, name, mine, part.others[name][here_N])
                    sums[1] += _errors(model, self._stream, theirs, part.z_ND[here_N])
        fvu_self, fvu_cross = _means(sums).tolist()
        found_S, chance_S = _means(jaccard)
        paired_S = jaccard[0, :, 1] > 0
        adjusted_S = ((found_S - chance_S) / (1 - chance_S).clamp_min(1e-12))[paired_S]
        return Judged(adjusted_S.mean().item(), fvu_self, fvu_cross)


def _means(sums: Tensor) -> Tensor:
    """Of pairs of a sum and a count, in the last dimension; 0 where nothing was counted."""
    return sums[..., 0] / sums[..., 1].clamp_min(1e-12)


def _jaccards(part: Taught, own: TopK, num_concepts: int) -> Tensor:
    """Sums and counts for each existing stream, [2, S, 2]: of the same item, of another item."""
    mine_NC = _active(own, num_concepts)
    sums = torch.zeros(2, len(part.own), 2, dtype=torch.float64)
    half = max(1, len(mine_NC) // 2)
    for column, codes in enumerate(part.own.values()):
        present_N = part.present_NS[:, column]
        for row, shift in enumerate((0, half)):
            theirs_NC = _active(codes, num_concepts).roll(shift, 0)
            both_N, any_N = (mine_NC & theirs_NC).sum(1), (mine_NC | theirs_NC).sum(1)
            counted_N = present_N & present_N.roll(shift) & (any_N > 0)
            sums[row, column, 0] += (both_N / any_N.clamp_min(1))[counted_N].sum()
            sums[row, column, 1] += counted_N.sum()
    return sums


def own_codes(model: AlignedDictionary, stream: str, z_ND: Tensor) -> TopK:
    """Codes of a stream that selects alone, from normalised activations."""
    own_NK = select([model.scores(stream, z_ND)], model.config.k)
    at = Support.of(own_NK[None], model.config.num_concepts)
    return TopK(own_NK, model.codes_at(stream, z_ND, at))


def _active(codes: TopK, num_concepts: int) -> Tensor:
    empty_NC = torch.zeros(len(codes.indices_NK), num_concepts, dtype=torch.bool)
    return empty_NC.scatter(1, codes.indices_NK, codes.values_NK > 0)


def _errors(model: AlignedDictionary, target: str, codes: TopK, z_ND: Tensor) -> Tensor:
    """Squared error and spread, summed over items."""
    stream = model.of(target)
    rebuilt_ND = weighted_rows(codes, stream.dictionary_CD) + stream.pre_bias_D
    spread_D = (stream.mean_D - stream.shift_D) * stream.scale
    return torch.stack(
        [(rebuilt_ND - z_ND).square().sum(), (z_ND - spread_D).square().sum()]
    ).double()
