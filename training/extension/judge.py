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
    """Jaccard of what the new stream and an existing one select."""
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
        sums = torch.zeros(3, 2, dtype=torch.float64)
        for part in self._parts:
            own = own_codes(model, self._stream, part.z_ND)
            sums[0] += self._agreement(part, own, model.config.num_concepts)
            sums[1] += _errors(model, self._stream, own, part.z_ND)
            for column, name in enumerate(existing(model, self._stream)):
                here_N = part.present_NS[:, column]
                if here_N.any():
                    theirs = TopK(*(x[here_N] for x in part.own[name]))
                    mine = TopK(*(x[here_N] for x in own))
                    sums[2] += _errors(model, name, mine, part.others[name][here_N])
                    sums[2] += _errors(model, self._stream, theirs, part.z_ND[here_N])
        agreement, fvu_self, fvu_cross = (sums[:, 0] / sums[:, 1].clamp_min(1e-12)).tolist()
        return Judged(agreement, fvu_self, fvu_cross)

    def _agreement(self, part: Taught, own: TopK, num_concepts: int) -> Tensor:
        mine_NC = _active(own, num_concepts)
        sums = torch.zeros(2, dtype=torch.float64)
        for column, codes in enumerate(part.own.values()):
            theirs_NC = _active(codes, num_concepts)
            both_N, any_N = (mine_NC & theirs_NC).sum(1), (mine_NC | theirs_NC).sum(1)
            counted_N = part.present_NS[:, column] & (any_N > 0)
            sums[0] += (both_N / any_N.clamp_min(1))[counted_N].sum()
            sums[1] += counted_N.sum()
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
