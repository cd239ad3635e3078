"""The CPU backend: tensors in and out of the compiled loops, cut into blocks for the threads."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from training.kernels import loops
from training.kernels.pool import buffers, over_blocks

_ITEMS, _CONCEPTS = 16, 64  # a block: long beside its call, short beside the batch


def sort_pairs(indices_P: Tensor, num_concepts: int) -> tuple[Tensor, Tensor]:
    """Where each concept's positions begin in the second result, which lists them by concept."""
    starts_C, pairs_P = loops.sort_pairs(indices_P.numpy(), num_concepts)
    return torch.from_numpy(starts_C), torch.from_numpy(pairs_P)


def largest(scores_NC: Tensor, k: int) -> Tensor:
    """Indices of each row's k largest scores, in no particular order."""
    indices_NK = torch.empty(len(scores_NC), k, dtype=torch.int64)
    over_blocks(loops.largest, len(scores_NC), _ITEMS, scores_NC.numpy(), indices_NK.numpy())
    return indices_NK


def values_forward(
    z_ND: Tensor, pre_bias_D: Tensor, encoder_CD: Tensor, bias_C: Tensor, indices_NK: Tensor
) -> Tensor:
    """Pre-codes of each item at its indices."""
    values_NK = torch.empty(indices_NK.shape)
    arrays = _arrays(z_ND, pre_bias_D, encoder_CD, bias_C, indices_NK, values_NK)
    over_blocks(loops.values_forward, len(z_ND), _ITEMS, *arrays)
    return values_NK


def corrected(
    pre_NK: Tensor, indices_NK: Tensor, dictionary_CD: Tensor, bias_D: Tensor, z_ND: Tensor,
    times: int, rate: float, softness: float,
) -> Tensor:  # fmt: skip
    """Pre-codes after `times` corrections by the residual of their softplus."""
    x_NK = pre_NK.detach().clone(memory_format=torch.contiguous_format)
    arrays = _arrays(x_NK, indices_NK, dictionary_CD, bias_D, z_ND)
    numbers = np.float32(rate), np.float32(softness)
    over_blocks(loops.corrected, len(z_ND), _ITEMS, *arrays, times, *numbers)
    return x_NK


def values_backward(
    z_ND: Tensor, pre_bias_D: Tensor, grad_NK: Tensor, starts_C: Tensor, pairs_P: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of the encoder's rows and of the latent bias."""
    num_concepts, k = len(starts_C) - 1, grad_NK.shape[1]
    d_encoder_CD = buffers.empty(num_concepts, z_ND.shape[1])
    d_bias_C = torch.empty(num_concepts)
    z, pre_bias, grad_P = _arrays(z_ND, pre_bias_D, grad_NK.flatten())
    arrays = _arrays(starts_C, pairs_P, d_encoder_CD, d_bias_C)
    over_blocks(loops.values_backward, num_concepts, _CONCEPTS, z, pre_bias, grad_P, k, *arrays)
    return d_encoder_CD, d_bias_C


def reconstruct_forward(
    values_USNK: Tensor, indices_UNK: Tensor, dictionary_CD: Tensor, bias_D: Tensor, z_ND: Tensor
) -> tuple[Tensor, Tensor]:
    """Squared error [U, S, N] and residual [U, S, N, D] of each source's reconstruction."""
    residual_USND = buffers.empty(*values_USNK.shape[:3], z_ND.shape[1])
    error_USN = torch.empty(values_USNK.shape[:3])
    arrays = _arrays(
        values_USNK, indices_UNK, dictionary_CD, bias_D, z_ND, residual_USND, error_USN
    )
    items = len(indices_UNK) * len(z_ND)
    over_blocks(loops.reconstruct_forward, items, _ITEMS, *arrays)
    return error_USN, residual_USND


def reconstruct_backward(
    values_USNK: Tensor,
    twice_USN: Tensor,
    residual_USND: Tensor,
    dictionary_CD: Tensor,
    starts_C: Tensor,
    pairs_P: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients of the dictionary's rows and of the values; `twice` is 2 · d_error."""
    d_dictionary_CD = buffers.empty(*dictionary_CD.shape)
    d_values_USNK = torch.empty(values_USNK.shape)
    arrays = _arrays(
        values_USNK.flatten(), twice_USN.flatten(), residual_USND.flatten(0, 2), dictionary_CD,
        starts_C, pairs_P, d_dictionary_CD, d_values_USNK.view(-1),
    )  # fmt: skip
    sizes = values_USNK.shape[1:]
    over_blocks(loops.reconstruct_backward, len(dictionary_CD), _CONCEPTS, *arrays, *sizes)
    return d_dictionary_CD, d_values_USNK


def _arrays(*tensors: Tensor) -> tuple:
    return tuple(tensor.detach().contiguous().numpy() for tensor in tensors)
