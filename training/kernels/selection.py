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


@torch.no_grad()
def largest_sums(
    scorers: list[Scorer], selecting_NS: Bool[Tensor, "N S"], k: int, *, exact: bool = False
) -> Int64[Tensor, "N K"]:
    """Indices of the k concepts with the largest sum of scores over an item's selecting streams.

    Where the CPU multiplies bf16 in hardware and the sizes are worth it, bf16 scores name half as
    many concepts again, and the sums in float32 decide among these; not with `exact`.
    """
    num_items, num_concepts = len(selecting_NS), len(scorers[0].bias_C)
    device = scorers[0].x_ND.device
    rough = not exact and _worth_rounding(device, num_items, num_concepts, k)
    weights = [s.weight_CD.bfloat16() if rough else s.weight_CD for s in scorers]
    named = k + max(16, k // 2) if rough else k
    step = max(_FEWEST_ROWS, _SCORES_AT_ONCE // num_concepts)
    indices = []
    for start in range(0, num_items, step):
        piece = slice(start, start + step)
        cut = [Scorer(x_ND[piece], weight_CD, b_C) for x_ND, weight_CD, b_C in scorers]
        found_NK = _largest(cut, weights, selecting_NS[piece], named)
        indices.append(_best_of(found_NK, cut, selecting_NS[piece], k) if rough else found_NK)
    return torch.cat(indices)


def _worth_rounding(device: torch.device, num_items: int, num_concepts: int, k: int) -> bool:
    large = num_items * num_concepts >= _ROUNDED_FROM and num_concepts >= 16 * k
    return large and device.type == "cpu" and _multiplies_bf16()


@lru_cache(maxsize=1)
def _multiplies_bf16() -> bool:
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def _largest(scorers: list[Scorer], weights: list[Tensor], selecting_NS: Tensor, k: int) -> Tensor:
    bias_SC = torch.stack([scorer.bias_C for scorer in scorers])
    mask_NS = selecting_NS.to(bias_SC.dtype)
    if selecting_NS.device.type != "cpu":
        scores_NC = mask_NS @ bias_SC
        for s, (x_ND, _, _) in enumerate(scorers):
            scores_NC = scores_NC + (x_ND * selecting_NS[:, s, None]) @ weights[s].T
        return scores_NC.topk(k, dim=1).indices
    scores_NC = buffers.empty(len(selecting_NS), bias_SC.shape[1])
    torch.mm(mask_NS, bias_SC, out=scores_NC)
    for s, (x_ND, _, _) in enumerate(scorers):
        _add_product(scores_NC, x_ND, weights[s], selecting_NS[:, s])
    return cpu.largest(scores_NC, k)


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
        product_MC = buffers.empty(len(rows_M), len(weight_CD))
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
