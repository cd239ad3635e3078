"""Pre-codes and reconstructions at given supports, for N K D operations instead of N C D.

Knows nothing of how a support is chosen or what the errors are weighted with. Gradients are those
of the dense formulation: pre_codes.gather(1, indices) and codes_NC @ dictionary_CD.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from training.kernels import cpu
from training.kernels.pool import buffers


class Support(NamedTuple):
    """The concepts that each item activates, also listed by concept for the backward loops."""

    indices_UNK: Int64[Tensor, "U N K"]
    """U supports of each of N items; an item's indices differ from each other."""
    starts_C: Int64[Tensor, "C+1"]
    """Concept c has the pairs `pairs[starts[c] : starts[c + 1]]`."""
    pairs_P: Int64[Tensor, "P"]
    """Positions in the flat indices, by concept, ascending."""

    @classmethod
    def of(cls, indices_UNK: Int64[Tensor, "U N K"], num_concepts: int) -> Support:
        """The support with its concepts sorted; O(U N K)."""
        flat_P = indices_UNK.contiguous().flatten()
        return cls(indices_UNK, *_backend(flat_P).sort_pairs(flat_P, num_concepts))


class Reconstruction(NamedTuple):
    """What `reconstruct` gives."""

    error_USN: Float[Tensor, "U S N"]
    """Squared errors, differentiable."""
    residual_USND: Float[Tensor, "U S N D"]
    """Reconstruction minus z, a constant."""


def values_at(
    z_ND: Float[Tensor, "N D"],
    pre_bias_D: Float[Tensor, "D"],
    encoder_CD: Float[Tensor, "C D"],
    latent_bias_C: Float[Tensor, "C"],
    support: Support,
) -> Float[Tensor, "N K"]:
    """Pre-codes (z - pre_bias) · encoder[c] + latent_bias[c] at the items' one support (U = 1).

    Differentiable in the parameters, not in z.
    """
    assert not z_ND.requires_grad, "z is a constant"
    return _ValuesAt.apply(z_ND, pre_bias_D, encoder_CD, latent_bias_C, *support)  # pyright: ignore[reportReturnType]


@torch.no_grad()
def corrected(
    pre_NK: Float[Tensor, "N K"],
    z_ND: Float[Tensor, "N D"],
    dictionary_CD: Float[Tensor, "C D"],
    bias_D: Float[Tensor, "D"],
    support: Support,
    *,
    times: int,
    rate: float,
    softness: float,
) -> Float[Tensor, "N K"]:
    """Pre-codes at the items' one support, each moved `times` times against what is not rebuilt.

    x ← x - rate · dictionary · (softness · softplus(x / softness) · dictionary + bias - z)
    """
    return _backend(z_ND).corrected(
        pre_NK, support.indices_UNK[0], dictionary_CD, bias_D, z_ND, times, rate, softness
    )


def reconstruct(
    values_USNK: Float[Tensor, "U S N K"],
    dictionary_CD: Float[Tensor, "C D"],
    bias_D: Float[Tensor, "D"],
    z_ND: Float[Tensor, "N D"],
    support: Support,
) -> Reconstruction:
    """‖values · dictionary[support] + bias - z‖² of S sources that share a support, U times.

    Global TopK has U = 1 support for all sources; Local TopK has U supports of S = 1 source each.
    Differentiable in values, dictionary and bias, not in z. A value of exactly 0 is a code that
    relu cut off: its gradient is 0, as relu's is.
    """
    assert not z_ND.requires_grad, "z is a constant"
    results: Any = _Reconstruct.apply(values_USNK, dictionary_CD, bias_D, z_ND, *support)
    return Reconstruction(*results)


class SparseRows(NamedTuple):
    """L rows over all concepts, of which K of each are not zero."""

    values_LK: Float[Tensor, "L K"]
    """Differentiable."""
    indices_LK: Int64[Tensor, "L K"]
    """An item's indices differ from each other."""
    columns_CL: Float[Tensor, "C L"]
    """The same values by concept, a constant."""

    @classmethod
    def of(
        cls, values_LK: Float[Tensor, "L K"], indices_LK: Int64[Tensor, "L K"], num_concepts: int
    ) -> SparseRows:
        """The rows, also by concept; O(C L), so for few rows."""
        columns_CL = _empty_like(values_LK, num_concepts, len(values_LK)).zero_()
        row_L1 = torch.arange(len(values_LK), device=values_LK.device)[:, None]
        columns_CL[indices_LK, row_L1] = values_LK.detach()
        return cls(values_LK, indices_LK, columns_CL)


def inner_products(one: SparseRows, other: SparseRows) -> Float[Tensor, "L M"]:
    """one · otherᵀ, differentiable in the values of both; L K M operations instead of L C M."""
    return _InnerProducts.apply(*one, *other)  # pyright: ignore[reportReturnType]


def rows_at(
    weight_CD: Float[Tensor, "C D"], concepts_L: Int64[Tensor, "L"]
) -> Float[Tensor, "L D"]:
    """weight[concepts] for concepts that differ from each other, cheap to differentiate."""
    return _RowsAt.apply(weight_CD, concepts_L)  # pyright: ignore[reportReturnType]


class _InnerProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *args: Tensor) -> Tensor:
        values_LK, indices_LK, columns_CL, _, indices_MK, columns_CM = args
        ctx.save_for_backward(indices_LK, columns_CL, indices_MK, columns_CM)
        nothing_LM = values_LK.new_zeros(len(values_LK), columns_CM.shape[1])
        _, products_UULM = _backend(values_LK).reconstruct_forward(
            values_LK[None, None], indices_LK[None], columns_CM, nothing_LM[0], nothing_LM
        )
        return products_UULM[0, 0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        indices_LK, columns_CL, indices_MK, columns_CM = ctx.saved_tensors
        grad_LM, values_forward = grads[0], _backend(grads[0]).values_forward
        no_bias_C = columns_CM.new_zeros(len(columns_CM))
        nothing_L, nothing_M = (grad_LM.new_zeros(size) for size in grad_LM.shape)
        d_one_LK = values_forward(grad_LM, nothing_M, columns_CM, no_bias_C, indices_LK)
        d_other_MK = values_forward(grad_LM.T, nothing_L, columns_CL, no_bias_C, indices_MK)
        return d_one_LK, None, None, d_other_MK, None, None


class _RowsAt(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *args: Tensor) -> Tensor:
        weight_CD, concepts_L = args
        ctx.save_for_backward(concepts_L)
        ctx.rows = len(weight_CD)
        return weight_CD[concepts_L]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (concepts_L,) = ctx.saved_tensors
        d_weight_CD = _empty_like(grads[0], ctx.rows, grads[0].shape[1])
        return d_weight_CD.zero_().index_copy_(0, concepts_L, grads[0]), None


class _ValuesAt(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *args: Tensor) -> Tensor:
        z_ND, pre_bias_D, encoder_CD, bias_C, indices_UNK, starts_C, pairs_P = args
        ctx.save_for_backward(z_ND, pre_bias_D, encoder_CD, starts_C, pairs_P)
        (indices_NK,) = indices_UNK
        return _backend(z_ND).values_forward(z_ND, pre_bias_D, encoder_CD, bias_C, indices_NK)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        z_ND, pre_bias_D, encoder_CD, starts_C, pairs_P = ctx.saved_tensors
        d_encoder_CD, d_bias_C = _backend(z_ND).values_backward(
            z_ND, pre_bias_D, grads[0], starts_C, pairs_P
        )
        return (None, -(d_bias_C @ encoder_CD), d_encoder_CD, d_bias_C, None, None, None)


class _Reconstruct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *args: Tensor) -> tuple[Tensor, Tensor]:
        values_USNK, dictionary_CD, bias_D, z_ND, indices_UNK, starts_C, pairs_P = args
        error_USN, residual_USND = _backend(z_ND).reconstruct_forward(
            values_USNK, indices_UNK, dictionary_CD, bias_D, z_ND
        )
        ctx.mark_non_differentiable(residual_USND)
        ctx.save_for_backward(values_USNK, dictionary_CD, residual_USND, starts_C, pairs_P)
        return error_USN, residual_USND

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        values_USNK, dictionary_CD, residual_USND, starts_C, pairs_P = ctx.saved_tensors
        twice_USN = 2 * grads[0]
        d_dictionary_CD, d_values_USNK = _backend(residual_USND).reconstruct_backward(
            values_USNK, twice_USN, residual_USND, dictionary_CD, starts_C, pairs_P
        )
        d_bias_D = twice_USN.flatten() @ residual_USND.flatten(0, 2)
        return (d_values_USNK, d_dictionary_CD, d_bias_D, None, None, None, None)


def _empty_like(tensor: Tensor, *shape: int) -> Tensor:
    on_cpu = tensor.device.type == "cpu" and tensor.dtype == torch.float32
    return buffers.empty(*shape) if on_cpu else tensor.new_empty(shape)


def _backend(tensor: Tensor) -> ModuleType:
    if tensor.device.type == "cpu":
        return cpu
    from training.kernels import cuda  # Triton is on machines with a GPU only

    return cuda
