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

_LEFT_OUT = -1e30  # finite: what is left out of everything still has a softmax


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
        left_out_N = torch.where(both_N, 0.0, _LEFT_OUT)
        weight_N = both_N / both_N.sum().clamp_min(1)
        scale_N = weight_N / (2 * temperature)  # of the gradient
        d_NN, loss_N = None, -2 * products_NN.diagonal().float() / temperature
        for dim in (1, 0):
            logits_NN = left_out_N.unsqueeze(1 - dim).add(products_NN, alpha=1 / temperature)
            most_N = logits_NN.amax(dim, keepdim=True)
            odds_NN = logits_NN.sub_(most_N).exp_()
            sum_N = odds_NN.sum(dim, keepdim=True)
            loss_N = loss_N + (most_N + sum_N.log()).squeeze(dim)
            share_N = scale_N.unsqueeze(dim) / sum_N
            d_NN = odds_NN.mul_(share_N) if d_NN is None else d_NN.addcmul_(odds_NN, share_N)
        assert d_NN is not None
        d_NN.diagonal().sub_(2 * scale_N)
        ctx.save_for_backward(d_NN)
        ctx.dtype = products_NN.dtype
        return (weight_N * loss_N).sum() / 2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (d_NN,) = ctx.saved_tensors
        return (grads[0] * d_NN).to(ctx.dtype), None, None
