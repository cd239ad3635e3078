"""Dictionaries trained one stream at a time, their concepts brought into one numbering afterwards.

The first stream keeps its numbers. Each later one is matched, one concept to one (Hungarian
algorithm), so that the summed correlation of its codes with those of the streams before it, over
the training rows, is largest.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array, vstack
from torch import Tensor, nn

from koine.types import Mode
from training.activations import ActivationStore
from training.evaluation.codes import num_items
from training.evaluation.encoding import encoded
from training.model import AlignedDictionary, TopK, strongest_first

MAX_ROWS = 20_000
"""Training rows that concepts are matched on, evenly spread."""


class MatchedDictionary(nn.Module):
    """One dictionary per stream behind one numbering; joint encoding is independent encoding."""

    def __init__(
        self,
        parts: Mapping[str, AlignedDictionary],
        shared: Mapping[str, Int64[np.ndarray, "C"]] | None = None,
    ) -> None:
        """`shared[stream][c]` is the common number of the stream's concept c; None keeps it."""
        super().__init__()
        self.config = next(iter(parts.values())).config
        self.streams = tuple(parts)
        self.parts = nn.ModuleDict(dict(parts))
        own = np.arange(self.config.num_concepts)
        for name in self.streams:
            shared_C = torch.as_tensor(own if shared is None else shared[name])
            self.register_buffer(f"shared_{name}", shared_C)
            self.register_buffer(f"own_{name}", shared_C.argsort())

    @torch.no_grad()
    def encode(
        self,
        acts: dict[str, Tensor],
        mode: Mode,
        present_NS: Bool[Tensor, "N S"] | None = None,
    ) -> dict[str, TopK]:
        """Each stream's codes, numbered in common; the same in both modes."""
        codes = {}
        for column, (name, acts_ND) in enumerate(acts.items()):
            there_N1 = None if present_NS is None else present_NS[:, column : column + 1]
            own = self._part(name).encode({name: acts_ND}, mode, there_N1)[name]
            shared_C = self.get_buffer(f"shared_{name}")
            codes[name] = strongest_first(TopK(shared_C[own.indices_NK], own.values_NK))
        return codes

    @torch.no_grad()
    def decode(self, name: str, codes: TopK) -> Float[Tensor, "N D"]:
        """Unit-norm activations of stream `name` that the codes of any stream stand for."""
        own_C = self.get_buffer(f"own_{name}")
        return self._part(name).decode(name, TopK(own_C[codes.indices_NK], codes.values_NK))

    def _part(self, name: str) -> AlignedDictionary:
        part = self.parts[name]
        assert isinstance(part, AlignedDictionary)
        return part


def matched(parts: Mapping[str, AlignedDictionary], store: ActivationStore) -> MatchedDictionary:
    """Match the streams' concepts on the store's training rows."""
    rows = store.split("train")
    codes, present_NS = _codes(
        MatchedDictionary(parts), store, rows[:: max(1, -(-len(rows) // MAX_ROWS))]
    )
    streams = tuple(parts)
    own_C = np.arange(parts[streams[0]].config.num_concepts)
    shared = {streams[0]: own_C}
    for column, name in enumerate(streams[1:], 1):
        together_CC = np.zeros((len(own_C), len(own_C)))
        for before, other in enumerate(streams[:column]):
            both_N = present_NS[:, column] & present_NS[:, before]
            correlation_CC = correlation(codes[name][both_N], codes[other][both_N])
            together_CC[:, shared[other]] += correlation_CC
        shared[name] = linear_sum_assignment(together_CC, maximize=True)[1].astype(np.int64)
    return MatchedDictionary(parts, shared)


def correlation(codes_a: csr_array, codes_b: csr_array) -> Float64[np.ndarray, "C C"]:
    """Of every concept of a with every one of b, over items; 0 where one of the two is constant."""
    items = max(1, num_items(codes_a))
    a, b = codes_a.astype(np.float64), codes_b.astype(np.float64)
    covariance_CC = (a.T @ b).toarray() / items
    mean_a, mean_b = (np.asarray(x.sum(axis=0)).ravel() / items for x in (a, b))
    covariance_CC -= np.outer(mean_a, mean_b)
    for axis, (x, mean_C) in enumerate(((a, mean_a), (b, mean_b))):
        variance_C = np.asarray(x.power(2).sum(axis=0)).ravel() / items - mean_C**2
        varies_C = variance_C > 1e-12
        scale_C = np.divide(1, np.sqrt(variance_C, where=varies_C, out=np.ones_like(variance_C)))
        covariance_CC *= np.expand_dims(np.where(varies_C, scale_C, 0.0), 1 - axis)
    return covariance_CC


def _codes(
    model: MatchedDictionary, store: ActivationStore, rows_N: np.ndarray
) -> tuple[dict[str, csr_array], np.ndarray]:
    parts: dict[str, list[csr_array]] = {name: [] for name in model.streams}
    present = []
    for batch in encoded(model, store, rows_N):
        for name, found in parts.items():
            found.append(batch.sparse["independent"][name])
        present.append(batch.present_NS)
    return {name: csr_array(vstack(each)) for name, each in parts.items()}, np.concatenate(present)
