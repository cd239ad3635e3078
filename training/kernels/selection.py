"""The k largest sums of several streams' scores, in pieces: no [N, C] outlives its piece.

Scores are only ranked, so nothing here is differentiable.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from training.kernels import cpu
from training.kernels.pool import buffers

_SCORES_AT_ONCE = 1 << 23
_FEWEST_ROWS = 128  # a product with fewer rows is bound by reading the weights


class Scorer(NamedTuple):
    """One stream's scores: x · weightᵀ + bias."""

    x_ND: Float[Tensor, "N D"]
    weight_CD: Float[Tensor, "C D"]
    bias_C: Float[Tensor, "C"]


@torch.no_grad()
def largest_sums(
    scorers: list[Scorer], selecting_NS: Bool[Tensor, "N S"], k: int
) -> Int64[Tensor, "N K"]:
    """Indices of the k concepts with the largest sum of scores over an item's selecting streams."""
    num_items, num_concepts = len(selecting_NS), len(scorers[0].bias_C)
    step = max(_FEWEST_ROWS, _SCORES_AT_ONCE // num_concepts)
    pieces = [slice(start, start + step) for start in range(0, num_items, step)]
    return torch.cat([_piece(scorers, selecting_NS, piece, k) for piece in pieces])


def _piece(scorers: list[Scorer], selecting_NS: Tensor, piece: slice, k: int) -> Tensor:
    selecting_NS = selecting_NS[piece]
    bias_SC = torch.stack([scorer.bias_C for scorer in scorers])
    if selecting_NS.device.type != "cpu":
        scores_NC = selecting_NS.to(bias_SC.dtype) @ bias_SC
        for s, (x_ND, weight_CD, _) in enumerate(scorers):
            scores_NC = scores_NC + (x_ND[piece] * selecting_NS[:, s, None]) @ weight_CD.T
        return scores_NC.topk(k, dim=1).indices
    scores_NC = buffers.empty(len(selecting_NS), bias_SC.shape[1])
    torch.mm(selecting_NS.to(bias_SC.dtype), bias_SC, out=scores_NC)
    for s, (x_ND, weight_CD, _) in enumerate(scorers):
        _add_product(scores_NC, x_ND[piece], weight_CD, selecting_NS[:, s])
    return cpu.largest(scores_NC, k)


def _add_product(scores_NC: Tensor, x_ND: Tensor, weight_CD: Tensor, selecting_N: Tensor) -> None:
    """Only of the rows that the stream selects for: under stream dropout a third is spared."""
    if torch.is_autocast_enabled("cpu"):
        scores_NC += (x_ND * selecting_N[:, None]) @ weight_CD.T
    elif bool(selecting_N.all()):
        scores_NC.addmm_(x_ND, weight_CD.T)
    else:
        rows_M = selecting_N.nonzero()[:, 0]
        product_MC = buffers.empty(len(rows_M), len(weight_CD))
        torch.mm(x_ND[rows_M], weight_CD.T, out=product_MC)
        scores_NC.index_add_(0, rows_M, product_MC)
