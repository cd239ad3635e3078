"""InfoNCE of two streams' products, both ways, with its gradient made on the way.

Knows neither where the products come from nor what they are weighted with. Rows are left out by
masks, not by indexing, so that nothing waits for a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

_LEFT_OUT = -1e30  # finite: a row of these has a softmax


def mean_info_nce(
    products: list[Float[Tensor, "N N"]], both_NP: Bool[Tensor, "N P"], temperature: float
) -> Float[Tensor, ""]:
    """Mean over P pairs of streams of InfoNCE among the rows that both streams have.

    Pairs with fewer than 2 such rows are left out: there is nothing to tell an item from.
    """
    if not products:
        return both_NP.new_zeros((), dtype=torch.float32)
    weigh_P = (both_NP.sum(0) > 1).float()
    terms_P = torch.stack(
        [_InfoNce.apply(*pair, temperature) for pair in zip(products, both_NP.T, strict=True)]  # pyright: ignore[reportArgumentType]
    )
    return (terms_P * weigh_P).sum() / weigh_P.sum().clamp_min(1)


class _InfoNce(torch.autograd.Function):
    """Mean of -log softmax of the own product, over rows and columns that `both` marks."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        products_NN, both_N, temperature = args
        logits_NN = products_NN.float() / temperature
        logits_NN.masked_fill_(~(both_N[:, None] & both_N), _LEFT_OUT)
        own_N = logits_NN.diagonal()
        weight_N = both_N / both_N.sum().clamp_min(1)
        across_NN, down_NN = logits_NN.softmax(1), logits_NN.softmax(0)
        # logsumexp - own, from the softmax of the largest, which cannot underflow
        loss_N = -2 * own_N
        for dim, shares_NN in ((1, across_NN), (0, down_NN)):
            loss_N = loss_N + logits_NN.amax(dim) - shares_NN.amax(dim).log()
        d_NN = across_NN.mul_(weight_N[:, None]).add_(down_NN.mul_(weight_N))
        d_NN.diagonal().sub_(2 * weight_N)
        ctx.save_for_backward(d_NN.div_(2 * temperature))
        ctx.dtype = products_NN.dtype
        return (weight_N * loss_N).sum() / 2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (d_NN,) = ctx.saved_tensors
        return (grads[0] * d_NN).to(ctx.dtype), None, None
