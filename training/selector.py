"""A space that the streams share, in which they choose concepts; knows no loss and no step.

With u = unit(z · basisᵀ · mapᵀ + map_bias) of a stream, whose basis whitens its first principal
components, and unit-norm prototypes of the concepts,
    scores = sharpness · u · prototypesᵀ + pre_code_weight · pre_codes + score_bias
and an item's streams choose together by the sum of their scores. Codes are positive where selected:
    x = pre_codes;  refinements times: x ← x + refine_rate · dictionary · (z - reconstruction)
    codes = softness · softplus(x / softness)
The correction is a step of iterative shrinkage on the selected rows (Daubechies et al. 2004; after
a learned encoder: LISTA, Gregor and LeCun 2010); its gradient is passed straight through.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from training.configs import SelectorConfig
from training.kernels.selection import Scorer
from training.kernels.sparse import Support, corrected
from training.unit import unit

START_SHARPNESS = 10.0


class StreamSelector(nn.Module):
    """One stream's way into the shared space."""

    basis_PD: Tensor
    pre_code_weight: Tensor
    score_bias_C: Tensor
    rate_C: Tensor

    def __init__(self, d_in: int, num_concepts: int, k: int, config: SelectorConfig) -> None:
        super().__init__()
        components = min(config.components, d_in)
        bound = components**-0.5  # nn.Linear's default
        self.map_RP = nn.Parameter(torch.empty(config.width, components).uniform_(-bound, bound))
        self.map_bias_R = nn.Parameter(torch.empty(config.width).uniform_(-bound, bound))
        self.sharpness = nn.Parameter(torch.tensor(START_SHARPNESS))
        self.register_buffer("basis_PD", torch.eye(components, d_in))
        self.register_buffer("pre_code_weight", torch.tensor(config.pre_code_weight))
        self.register_buffer("score_bias_C", torch.zeros(num_concepts))
        self.register_buffer("rate_C", torch.full((num_concepts,), k / num_concepts))

    @torch.no_grad()
    def components(self, z_ND: Float[Tensor, "N D"]) -> Float[Tensor, "N P"]:
        """What the map sees."""
        return nn.functional.linear(z_ND, self.basis_PD)

    def forward(self, components_NP: Float[Tensor, "N P"]) -> Float[Tensor, "N R"]:
        """Unit rows in the shared space."""
        return unit(nn.functional.linear(components_NP, self.map_RP, self.map_bias_R))


@torch.no_grad()
def scorers(
    selector: StreamSelector,
    prototypes_CR: Float[Tensor, "C R"],
    pre_codes: Scorer,
    z_ND: Float[Tensor, "N D"],
) -> list[Scorer]:
    """The two products whose sum is a stream's scores."""
    weight = selector.pre_code_weight
    bias_C = selector.score_bias_C + weight * pre_codes.bias_C
    places_NR = selector(selector.components(z_ND))
    shared = Scorer(places_NR * selector.sharpness, unit(prototypes_CR), bias_C)
    no_bias_C = torch.zeros_like(bias_C)
    return [shared, Scorer(weight * pre_codes.x_ND, pre_codes.weight_CD, no_bias_C)]


def refined_codes(
    pre_NK: Float[Tensor, "N K"],
    z_ND: Float[Tensor, "N D"],
    dictionary_CD: Float[Tensor, "C D"],
    pre_bias_D: Float[Tensor, "D"],
    support: Support,
    config: SelectorConfig,
) -> Float[Tensor, "N K"]:
    """Codes from the pre-codes at a support (U = 1), corrected against the residual."""
    moved_NK = corrected(
        pre_NK,
        z_ND,
        dictionary_CD,
        pre_bias_D,
        support,
        times=config.refinements,
        rate=config.refine_rate,
        softness=config.softness,
    )
    straight_NK = pre_NK + (moved_NK - pre_NK).detach()
    return nn.functional.softplus(straight_NK, beta=1 / config.softness)
