"""The k largest sums of several streams' scores, in pieces: no [N, C] outlives its piece.

Scores are only ranked, so nothing here is differentiable.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from training.kernels import cpu
from training.kernels.pool import buffers

_SCORES_AT_ONCE = 1 << 23
_ROUNDED_FROM = 1 << 20  # scores; below, converting the weights costs more than it saves
_FEWEST_ROWS = 128  # a product with fewer rows is bound by reading the weights


class Scorer(NamedTuple):
    """One stream's scores: x · weightᵀ + bias."""

    x_ND: Float[Tensor, "N D"]
    weight_CD: Float[Tensor, "C D"]
    bias_C: Float[Tensor, "C"]


class Choice(NamedTuple):
    """What the streams of N items choose."""

    own: list[Int64[Tensor, "N K"]]
    """Each stream alone."""
    joint_NK: Int64[Tensor, "N K"]
    """An item's present streams together."""


@torch.no_grad()
def largest_sums(
    scorers: list[Scorer], selecting_NS: Bool[Tensor, "N S"], k: int, *, exact: bool = False
) -> Int64[Tensor, "N K"]:
    """Indices of the k concepts with the largest sum of scores over an item's selecting streams.

    Where the CPU multiplies bf16 in hardware and the sizes are worth it, bf16 scores name half as
    many concepts again, and the sums in float32 decide among these; not with `exact`.
    """
    ranking = _ranking(scorers, len(selecting_NS), k, exact)
    weights = ranking.weights(scorers)
    found = []
    for piece in ranking.pieces:
        cut = _cut(scorers, piece)
        sums_NC = _sums(cut, weights, selecting_NS[piece])
        found.append(ranking.best(sums_NC, cut, selecting_NS[piece]))
    return torch.cat(found)


@torch.no_grad()
def largest_own_and_joint(
    streams: list[list[Scorer]], present_NS: Bool[Tensor, "N S"], k: int
) -> Choice:
    """The k largest sums of each stream's scorers, and those of the present streams' sums.

    Every product is computed once; rounded as in `largest_sums`.
    """
    every = [scorer for scorers in streams for scorer in scorers]
    columns = [present_NS[:, s, None].expand(-1, len(own)) for s, own in enumerate(streams)]
    present_NP = torch.cat(columns, dim=1)
    ranking = _ranking(every, len(present_NS), k, exact=False)
    weights = [ranking.weights(scorers) for scorers in streams]
    own: list[list[Tensor]] = [[] for _ in streams]
    joint = []
    for piece in ranking.pieces:
        total_NC = None
        for s, scorers in enumerate(streams):
            cut = _cut(scorers, piece)
            alone_NP = torch.ones_like(present_NP[piece, : len(scorers)])
            sums_NC = _sums(cut, weights[s], alone_NP)
            own[s].append(ranking.best(sums_NC, cut, alone_NP))
            total_NC = _added(total_NC, sums_NC, present_NS[piece, s])
        assert total_NC is not None, "a dictionary has streams"
        joint.append(ranking.best(total_NC, _cut(every, piece), present_NP[piece]))
    return Choice([torch.cat(parts) for parts in own], torch.cat(joint))


class _Ranking(NamedTuple):
    """How items are ranked: how many at once, and how many concepts rounded scores name."""

    pieces: list[slice]
    k: int
    named: int
    rough: bool

    def weights(self, scorers: list[Scorer]) -> list[Tensor]:
        """What the products are taken with."""
        return [s.weight_CD.bfloat16() if self.rough else s.weight_CD for s in scorers]

    def best(self, sums_NC: Tensor, scorers: list[Scorer], selecting_NS: Tensor) -> Tensor:
        """The k largest of sums that `_sums` made of these scorers."""
        if not _on_cpu(sums_NC):
            return sums_NC.topk(self.k, dim=1).indices
        named_NK = cpu.largest(sums_NC, self.named)
        return _best_of(named_NK, scorers, selecting_NS, self.k) if self.rough else named_NK


def _ranking(scorers: list[Scorer], num_items: int, k: int, exact: bool) -> _Ranking:
    num_concepts, device = len(scorers[0].bias_C), scorers[0].x_ND.device
    rough = not exact and _worth_rounding(device, num_items, num_concepts, k)
    step = max(_FEWEST_ROWS, _SCORES_AT_ONCE // num_concepts)
    pieces = [slice(start, start + step) for start in range(0, num_items, step)]
    return _Ranking(pieces, k, k + max(16, k // 2) if rough else k, rough)


def _on_cpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


def _cut(scorers: list[Scorer], piece: slice) -> list[Scorer]:
    return [Scorer(x_ND[piece], weight_CD, bias_C) for x_ND, weight_CD, bias_C in scorers]


def _worth_rounding(device: torch.device, num_items: int, num_concepts: int, k: int) -> bool:
    large = num_items * num_concepts >= _ROUNDED_FROM and num_concepts >= 16 * k
    return large and device.type == "cpu" and _multiplies_bf16()


@lru_cache(maxsize=1)
def _multiplies_bf16() -> bool:
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def _sums(scorers: list[Scorer], weights: list[Tensor], selecting_NS: Tensor) -> Tensor:
    """Scores [N, C], summed over an item's selecting scorers."""
    bias_SC = torch.stack([scorer.bias_C for scorer in scorers])
    mask_NS = selecting_NS.to(bias_SC.dtype)
    if not _on_cpu(selecting_NS):
        with torch.autocast(selecting_NS.device.type, enabled=False):
            scores_NC = mask_NS @ bias_SC
        for s, (x_ND, _, _) in enumerate(scorers):  # products may be bf16, their sums are not
            scores_NC += (x_ND * selecting_NS[:, s, None]) @ weights[s].T
        return scores_NC
    scores_NC = buffers.empty(len(selecting_NS), bias_SC.shape[1])
    torch.mm(mask_NS, bias_SC, out=scores_NC)
    for s, (x_ND, _, _) in enumerate(scorers):
        _add_product(scores_NC, x_ND, weights[s], selecting_NS[:, s])
    return scores_NC


def _added(total_NC: Tensor | None, scores_NC: Tensor, present_N: Tensor) -> Tensor:
    """The total over streams, which the first one's scores become."""
    mask_N1 = present_N[:, None].to(scores_NC.dtype)
    if total_NC is None:
        return scores_NC.mul_(mask_N1)
    return total_NC.addcmul_(scores_NC, mask_N1)


def _add_product(scores_NC: Tensor, x_ND: Tensor, weight_CD: Tensor, selecting_N: Tensor) -> None:
    """Only of the rows that the stream selects for: under stream dropout a third is spared."""
    rows_M = selecting_N.nonzero()[:, 0]
    whole = len(rows_M) == len(selecting_N)
    x_MD = x_ND if whole else x_ND[rows_M]
    if weight_CD.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu"):
        product_MC = (x_MD.to(weight_CD.dtype) @ weight_CD.T).float()
    elif whole:
        scores_NC.addmm_(x_ND, weight_CD.T)
        return
    else:
        # as many rows as there may be: buffers are kept by size, and each count would keep its own
        product_MC = buffers.empty(len(x_ND), len(weight_CD))[: len(rows_M)]
        torch.mm(x_MD, weight_CD.T, out=product_MC)
    scores_NC.index_add_(0, rows_M, product_MC)


def _best_of(named_NK: Tensor, scorers: list[Scorer], selecting_NS: Tensor, k: int) -> Tensor:
    sums_NK = torch.zeros(named_NK.shape)
    for s, (x_ND, weight_CD, bias_C) in enumerate(scorers):
        rows_M = selecting_NS[:, s].nonzero()[:, 0]
        no_bias_D = torch.zeros(x_ND.shape[1])
        sums_MK = cpu.values_forward(x_ND[rows_M], no_bias_D, weight_CD, bias_C, named_NK[rows_M])
        sums_NK.index_add_(0, rows_M, sums_MK)
    return named_NK.gather(1, cpu.largest(sums_NK, k))
