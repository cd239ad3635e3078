"""Rows brought to unit norm, as encoders' activations and shared-space maps are compared."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

UNIT_NORM_EPS = 1e-8


def unit(rows_ND: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """x / (‖x‖ + 1e-8): rows of zeros stay zeros."""
    return rows_ND / (rows_ND.norm(dim=1, keepdim=True) + UNIT_NORM_EPS)
