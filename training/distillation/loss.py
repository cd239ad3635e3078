"""What a student is taught: its teacher's activations and the concepts that they choose."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from training.model import AlignedDictionary
from training.unit import unit


def scores(model: AlignedDictionary, name: str, z_ND: Float[Tensor, "N D"]) -> Float[Tensor, "N C"]:
    """What selection ranks, as `AlignedDictionary.scores`, differentiable in `z_ND`."""
    pre_NC = model.of(name).pre_codes(z_ND)
    if model.config.selector is None:
        return pre_NC
    chosen = model.selector_of(name)
    place_NP = nn.functional.linear(z_ND, chosen.basis_PD)
    shared_NC = chosen(place_NP) * chosen.sharpness @ unit(model.prototypes_CR).T
    return shared_NC + chosen.pre_code_weight * pre_NC + chosen.score_bias_C


def student_loss(
    model: AlignedDictionary,
    name: str,
    student_ND: Float[Tensor, "N D"],
    teacher_ND: Float[Tensor, "N D"],
    support_weight: float,
) -> Float[Tensor, ""]:
    """‖z - z*‖² / ‖z*‖² + weight · cross-entropy of "z* selects c" given z's scores.

    Scores count from the middle between the teacher's last chosen and first rejected one, in
    standard deviations of the teacher's scores; chosen and rejected concepts weigh the same.
    """
    stream, k = model.of(name), model.config.k
    z_ND, wanted_ND = stream.normalise(student_ND), stream.normalise(teacher_ND)
    apart = (z_ND - wanted_ND).square().sum() / wanted_ND.square().sum()
    with torch.no_grad():
        wanted_NC = scores(model, name, wanted_ND)
        top = wanted_NC.topk(min(k + 1, wanted_NC.shape[1]), dim=1).values
        middle_N1 = (top[:, -2:].sum(1, keepdim=True)) / 2
        chosen_NC = (wanted_NC > middle_N1).float()
        spread_N1 = wanted_NC.std(1, keepdim=True)
    logits_NC = (scores(model, name, z_ND) - middle_N1) / spread_N1 * _SLOPE
    each_NC = nn.functional.binary_cross_entropy_with_logits(logits_NC, chosen_NC, reduction="none")
    right = (each_NC * chosen_NC).sum() / chosen_NC.sum().clamp(min=1)
    wrong = (each_NC * (1 - chosen_NC)).sum() / (1 - chosen_NC).sum().clamp(min=1)
    return apart + support_weight * (right + wrong) / 2


_SLOPE = 4.0
"""A quarter of a standard deviation beyond the middle is one logit."""
