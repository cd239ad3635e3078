"""Exact attribution by gradients, what the served form is measured against; exports nothing.

Of a concept's pre-code T with respect to the last spatial map. Average pools: gradient × activation
summed over channels, as Grad-CAM without its pooled weights (Selvaraju et al. 2017). Attention
pools: the relevancy of Chefer, Gur and Wolf (ICCV 2021), mean over heads of ReLU(∂T/∂A ⊙ A), from
the query to the patches, its last layer alone as SPARC does (arXiv 2507.06265).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from training.localisation.patches import AttentionPoolPatches, PatchModule, attend
from training.model import Stream


@torch.no_grad()
def last_map(module: PatchModule, images_NHWC: Tensor) -> Float[Tensor, "N C H W"]:
    """What the pooling reads of uint8 images."""
    return module.trunk(module.pixels(images_NHWC))


def relevancy(
    module: PatchModule, stream: Stream, map_NCHW: Float[Tensor, "N C H W"], concept: int
) -> Float[Tensor, "N H W"]:
    """How much each place of the `last_map` raises the concept's pre-code."""
    if isinstance(module.split, AttentionPoolPatches):
        return _through_attention(module.split, stream, map_NCHW, concept)
    map_NCHW = map_NCHW.detach().requires_grad_()
    target = _pre_code(stream, map_NCHW.mean((2, 3)), concept)
    (gradient_NCHW,) = torch.autograd.grad(target, map_NCHW)
    return (gradient_NCHW * map_NCHW).sum(1).detach()


def _through_attention(
    split: AttentionPoolPatches, stream: Stream, map_NCHW: Tensor, concept: int
) -> Float[Tensor, "N H W"]:
    pool = split.pool
    with torch.no_grad():
        attention_NHT, values_NTHE = attend(pool, map_NCHW)
    attention_NHT = attention_NHT.requires_grad_()
    pooled_NHE = torch.einsum("nht,nthe->nhe", attention_NHT, values_NTHE)
    acts_ND = nn.functional.linear(pooled_NHE.flatten(1), pool.c_proj.weight, pool.c_proj.bias)
    (gradient_NHT,) = torch.autograd.grad(_pre_code(stream, acts_ND, concept), attention_NHT)
    raised_NT = (gradient_NHT * attention_NHT).relu().mean(1)
    return raised_NT[:, 1:].detach().unflatten(1, map_NCHW.shape[2:])


def _pre_code(stream: Stream, acts_ND: Tensor, concept: int) -> Tensor:
    """Summed over the images, whose gradients are independent."""
    z_ND = stream.normalise(acts_ND)
    return ((z_ND - stream.pre_bias_D) @ stream.encoder_CD[concept].detach()).sum()
