"""The CUDA backend: the loops of `loops.py` in Triton, one program per item or concept.

Sums run in a fixed order, without atomics, as on the CPU. TRITON_INTERPRET=1 runs them anywhere.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor


def _jit(kernel: Callable[..., Any]) -> Any:
    return triton.jit(inspect.unwrap(kernel))  # the tests' type checks wrap it in Python


def sort_pairs(indices_P: Tensor, num_concepts: int) -> tuple[Tensor, Tensor]:
    """Where each concept's positions begin in the second result, which lists them by concept."""
    pairs_P = indices_P.argsort(stable=True)
    bounds_C = torch.arange(num_concepts + 1, device=indices_P.device)
    return torch.searchsorted(indices_P[pairs_P], bounds_C), pairs_P


def values_forward(
    z_ND: Tensor, pre_bias_D: Tensor, encoder_CD: Tensor, bias_C: Tensor, indices_NK: Tensor
) -> Tensor:
    """Pre-codes of each item at its indices."""
    values_NK = z_ND.new_empty(indices_NK.shape)
    centred_ND = z_ND - pre_bias_D
    width, k = z_ND.shape[1], indices_NK.shape[1]
    _values_forward[(values_NK.numel(),)](
        centred_ND, encoder_CD, bias_C, indices_NK.contiguous(), values_NK, width, k, _block(width)
    )
    return values_NK


def corrected(
    pre_NK: Tensor, indices_NK: Tensor, dictionary_CD: Tensor, bias_D: Tensor, z_ND: Tensor,
    times: int, rate: float, softness: float,
) -> Tensor:  # fmt: skip
    """Pre-codes after `times` corrections by the residual of their softplus."""
    no_bias_D, no_bias_C = torch.zeros_like(bias_D), z_ND.new_zeros(len(dictionary_CD))
    for _ in range(times):
        codes_NK = torch.nn.functional.softplus(pre_NK, beta=1 / softness)
        _, residual_UUND = reconstruct_forward(
            codes_NK[None, None], indices_NK[None], dictionary_CD, bias_D, z_ND
        )
        missing_ND = residual_UUND[0, 0]
        step_NK = values_forward(missing_ND, no_bias_D, dictionary_CD, no_bias_C, indices_NK)
        pre_NK = pre_NK - rate * step_NK
    return pre_NK


def values_backward(
    z_ND: Tensor, pre_bias_D: Tensor, grad_NK: Tensor, starts_C: Tensor, pairs_P: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of the encoder's rows and of the latent bias."""
    num_concepts, width, k = len(starts_C) - 1, z_ND.shape[1], grad_NK.shape[1]
    d_encoder_CD = z_ND.new_empty(num_concepts, width)
    d_bias_C = z_ND.new_empty(num_concepts)
    grid = (num_concepts, triton.cdiv(width, _block(width)))
    _values_backward[grid](
        z_ND - pre_bias_D, grad_NK.contiguous(), starts_C, pairs_P, d_encoder_CD, d_bias_C, width,
        k, _block(width),
    )  # fmt: skip
    return d_encoder_CD, d_bias_C


def reconstruct_forward(
    values_USNK: Tensor, indices_UNK: Tensor, dictionary_CD: Tensor, bias_D: Tensor, z_ND: Tensor
) -> tuple[Tensor, Tensor]:
    """Squared error [U, S, N] and residual [U, S, N, D] of each source's reconstruction."""
    (_, sources, items, k), width = values_USNK.shape, z_ND.shape[1]
    residual_USND = z_ND.new_empty(*values_USNK.shape[:3], width)
    grid = (residual_USND.shape[:3].numel(), triton.cdiv(width, _block(width)))
    _reconstruct_forward[grid](
        values_USNK.contiguous(), indices_UNK.contiguous(), dictionary_CD, bias_D - z_ND,
        residual_USND, sources, items, width, k, _block(width),
    )  # fmt: skip
    return residual_USND.square().sum(3), residual_USND


def reconstruct_backward(
    values_USNK: Tensor,
    twice_USN: Tensor,
    residual_USND: Tensor,
    dictionary_CD: Tensor,
    starts_C: Tensor,
    pairs_P: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients of the dictionary's rows and of the values; `twice` is 2 · d_error."""
    (_, sources, items, k), (num_concepts, width) = values_USNK.shape, dictionary_CD.shape
    d_dictionary_CD = torch.empty_like(dictionary_CD)
    weights_USNK = (twice_USN[..., None] * values_USNK).contiguous()
    grid = (num_concepts, triton.cdiv(width, _block(width)))
    _reconstruct_backward[grid](
        weights_USNK, residual_USND, starts_C, pairs_P, d_dictionary_CD, sources, items, width, k,
        _block(width),
    )  # fmt: skip
    d_values_USNK = torch.empty_like(weights_USNK)
    lengths_C = starts_C.diff()
    concept_P = torch.empty_like(pairs_P)
    concept_P[pairs_P] = torch.arange(num_concepts, device=pairs_P.device).repeat_interleave(
        lengths_C, output_size=len(pairs_P)
    )
    _values_of_residual[(d_values_USNK.numel(),)](
        residual_USND, dictionary_CD, concept_P, d_values_USNK, sources, items, width, k,
        _block(width),
    )  # fmt: skip
    return d_dictionary_CD, d_values_USNK * twice_USN[..., None] * (values_USNK != 0)


def _block(width: int) -> int:
    return min(1024, 1 << (width - 1).bit_length())


@_jit
def _values_forward(centred, encoder, bias, indices, values, width, k, BLOCK: tl.constexpr):
    pair = tl.program_id(0).to(tl.int64)
    item, c = pair // k, tl.load(indices + pair)
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, width, BLOCK):
        d = start + tl.arange(0, BLOCK)
        x = tl.load(centred + item * width + d, d < width, 0.0)
        total += x * tl.load(encoder + c * width + d, d < width, 0.0)
    tl.store(values + pair, tl.sum(total) + tl.load(bias + c))


@_jit
def _values_backward(
    centred, grad, starts, pairs, d_encoder, d_bias, width, k, BLOCK: tl.constexpr
):
    c = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    row, total = tl.zeros((BLOCK,), tl.float32), 0.0
    for i in range(tl.load(starts + c), tl.load(starts + c + 1)):
        pair = tl.load(pairs + i)
        g = tl.load(grad + pair)
        row += g * tl.load(centred + pair // k * width + d, d < width, 0.0)
        total += g
    tl.store(d_encoder + c * width + d, row, d < width)
    if tl.program_id(1) == 0:
        tl.store(d_bias + c, total)


@_jit
def _reconstruct_forward(
    values, indices, dictionary, offset, residual, sources, items, width, k, BLOCK: tl.constexpr
):
    m = tl.program_id(0).to(tl.int64)  # (u · S + s) · N + n
    item = m % items
    support = m // (sources * items) * items + item
    d = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    row = tl.load(offset + item * width + d, d < width, 0.0)
    for j in range(k):
        c = tl.load(indices + support * k + j)
        row += tl.load(values + m * k + j) * tl.load(dictionary + c * width + d, d < width, 0.0)
    tl.store(residual + m * width + d, row, d < width)


@_jit
def _reconstruct_backward(
    weights, residual, starts, pairs, d_dictionary, sources, items, width, k, BLOCK: tl.constexpr
):
    c = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    row = tl.zeros((BLOCK,), tl.float32)
    for i in range(tl.load(starts + c), tl.load(starts + c + 1)):
        pair = tl.load(pairs + i)
        support, j = pair // k, pair % k
        first = support // items * sources * items + support % items
        for s in range(sources):
            m = first + s * items
            weight = tl.load(weights + m * k + j)
            row += weight * tl.load(residual + m * width + d, d < width, 0.0)
    tl.store(d_dictionary + c * width + d, row, d < width)


@_jit
def _values_of_residual(
    residual, dictionary, concepts, d_values, sources, items, width, k, BLOCK: tl.constexpr
):
    entry = tl.program_id(0).to(tl.int64)
    m, j = entry // k, entry % k
    support = m // (sources * items) * items + m % items
    c = tl.load(concepts + support * k + j)
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, width, BLOCK):
        d = start + tl.arange(0, BLOCK)
        x = tl.load(residual + m * width + d, d < width, 0.0)
        total += x * tl.load(dictionary + c * width + d, d < width, 0.0)
    tl.store(d_values + entry, tl.sum(total))
