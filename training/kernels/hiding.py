"""Dropout of inputs whose draws are a hash of a key, the item and the dimension.

No generator has a state, so an item's draws are the same whichever worker, device or thread has
it. The hash is the finaliser of MurmurHash3 over a Weyl sequence, as in SplitMix (Steele et al.
2014).
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from training.kernels.pool import compiled, over_blocks

_ITEMS = 16
_STEP, _FIRST, _SECOND = 0x9E3779B9, 0x85EBCA6B, 0xC2B2AE35
_LOW = (1 << 32) - 1
_WEYL, _MUL_1, _MUL_2 = np.uint32(_STEP), np.uint32(_FIRST), np.uint32(_SECOND)


def with_hidden(z_ND: Float[Tensor, "N D"], share: float, key: int, first: int) -> Tensor:
    """z / (1 - share) where an entry stays and 0 where not; row n is item first + n."""
    bound, scale = int(share * 2**32), 1 / (1 - share)
    if z_ND.device.type == "cpu" and z_ND.dtype == torch.float32:
        hidden_ND = torch.empty(z_ND.shape)
        arrays = z_ND.detach().contiguous().numpy(), hidden_ND.numpy()
        numbers = np.uint32(bound), np.float32(scale), np.uint32(key)
        over_blocks(_hide, len(z_ND), _ITEMS, *arrays, *numbers, first)
        return hidden_ND
    items_N = torch.arange(first, first + len(z_ND), device=z_ND.device)
    dims_D = torch.arange(z_ND.shape[1], device=z_ND.device)
    rows_N = _mixed(key + items_N * _STEP)
    kept_ND = _mixed(rows_N[:, None] + dims_D * _STEP) >= bound
    return z_ND.detach() * kept_ND * scale


def _mixed(x: Tensor) -> Tensor:
    """Of 64 bits the lower 32 count: a product's do not depend on the others."""
    x = x & _LOW
    x = ((x ^ (x >> 16)) * _FIRST) & _LOW
    x = ((x ^ (x >> 13)) * _SECOND) & _LOW
    return x ^ (x >> 16)


@compiled
def _hide(start, stop, z_ND, hidden_ND, bound, scale, key, first):
    width = z_ND.shape[1]
    for n in range(start, stop):
        row = np.uint32(key + np.uint32(np.uint32(first + n) * _WEYL))
        row = np.uint32(np.uint32(row ^ (row >> np.uint32(16))) * _MUL_1)
        row = np.uint32(np.uint32(row ^ (row >> np.uint32(13))) * _MUL_2)
        row = np.uint32(row ^ (row >> np.uint32(16)))
        z_D, hidden_D = z_ND[n], hidden_ND[n]
        for d in range(width):
            x = np.uint32(row + np.uint32(np.uint32(d) * _WEYL))
            x = np.uint32(np.uint32(x ^ (x >> np.uint32(16))) * _MUL_1)
            x = np.uint32(np.uint32(x ^ (x >> np.uint32(13))) * _MUL_2)
            x = np.uint32(x ^ (x >> np.uint32(16)))
            hidden_D[d] = z_D[d] * scale if x >= bound else np.float32(0)
