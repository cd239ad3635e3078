"""What fitting minimises: self and cross reconstruction; AuxK stands in `auxk.py`.

Squared errors are per item. `koine` works on streams centred and scaled to unit mean square, so
an error is already a fraction of variance; `sparc` divides each item's error by its squared norm
(the uncentred NMSE of arXiv 2507.06265's code) and takes means, not sums, over streams and pairs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from training.alignment import Alignment
from training.auxk import auxk_loss
from training.configs import FitConfig, Method
from training.kernels.selection import largest_own_and_joint, largest_sums
from training.kernels.sparse import Support, reconstruct
from training.model import AlignedDictionary, TopK
from training.parallel import ALONE, Group


class Losses(NamedTuple):
    """Means over items and streams or pairs; scalars on the training device."""

    total: Tensor
    self_: Tensor
    cross: Tensor
    auxk: Tensor
    contrast: Tensor
    teach: Tensor
    code_contrast: Tensor


class Forward(NamedTuple):
    """What one step computed, for the losses and for counting dead latents."""

    z: dict[str, Tensor]
    """Normalised inputs [N, D]."""
    codes: dict[str, TopK]
    """Selected codes of each stream."""
    supports: dict[str, Support]
    """Of each stream; one and the same with Global TopK."""
    joint_NK: Int64[Tensor, "N K"] | None = None
    """What an item's streams choose together; with a selector only."""
    own: dict[str, Int64[Tensor, "N K"]] | None = None
    """What each stream chooses alone; with a selector only."""


def forward(
    model: AlignedDictionary,
    acts: dict[str, Tensor],
    selecting_NS: Bool[Tensor, "N S"],
    present_NS: Bool[Tensor, "N S"],
    method: Method = "koine",
) -> Forward:
    """Selection and codes; the streams marked in `selecting_NS` choose an item's support.

    With a selector, each stream of an item that not all present ones choose for chooses alone.
    `sparc` keeps to the published ranking: `largest_sums` may not round candidates for it.
    """
    z = {name: model.of(name).normalise(x).float() for name, x in acts.items()}
    joint_NK, own = None, None
    if model.config.selector is None:
        supports = _supports(model, z, selecting_NS, exact=method == "sparc")
    else:
        joint_NK, own = _joint_and_own(model, z, present_NS)
        alone_N1 = (selecting_NS != present_NS).any(1, keepdim=True)
        supports = {
            name: Support.of(
                torch.where(alone_N1, own_NK, joint_NK)[None], model.config.num_concepts
            )
            for name, own_NK in own.items()
        }
    codes = {
        name: TopK(supports[name].indices_UNK[0], model.codes_at(name, z_ND, supports[name]))
        for name, z_ND in z.items()
    }
    return Forward(z, codes, supports, joint_NK, own)


def _supports(
    model: AlignedDictionary, z: dict[str, Tensor], selecting_NS: Tensor, *, exact: bool
) -> dict[str, Support]:
    num_concepts, k = model.config.num_concepts, model.config.k
    scorers = {name: model.scorers(name, z_ND) for name, z_ND in z.items()}
    if model.config.selection == "global":
        together = [scorer for (scorer,) in scorers.values()]
        indices_NK = largest_sums(together, selecting_NS, k, exact=exact)
        return dict.fromkeys(z, Support.of(indices_NK[None], num_concepts))
    alone_N1 = torch.ones_like(selecting_NS[:, :1])
    indices = {name: largest_sums(own, alone_N1, k, exact=exact) for name, own in scorers.items()}
    return {name: Support.of(i[None], num_concepts) for name, i in indices.items()}


def _joint_and_own(
    model: AlignedDictionary, z: dict[str, Tensor], present_NS: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """What an item's present streams choose together, and what each chooses alone."""
    scorers = [model.scorers(name, z_ND) for name, z_ND in z.items()]
    choice = largest_own_and_joint(scorers, present_NS, model.config.k)
    return choice.joint_NK, dict(zip(z, choice.own, strict=True))


def losses(
    model: AlignedDictionary,
    out: Forward,
    present_NS: Bool[Tensor, "N S"],
    dead_SC: Bool[Tensor, "S C"] | None,
    config: FitConfig,
    group: Group = ALONE,
    aligned: Alignment | None = None,
) -> Losses:
    """Self + cross_weight · cross + auxk_weight · AuxK, and what `aligned` holds, weighted.

    `dead_SC` None leaves AuxK out.

    Each worker of `group` gets its share: the workers' losses, and their gradients, add up to
    those of the whole batch.
    """
    names = list(out.z)
    pairs_SS = group.sum((present_NS[:, :, None] & present_NS[:, None, :]).sum(0))
    every_source = _stacked(out, names, model.config.num_concepts)
    self_terms: list[Tensor] = []
    cross_terms: list[Tensor] = []
    residuals: dict[str, Tensor] = {}
    for t, target in enumerate(names):
        alone = config.cross_weight == 0
        values_USNK, support = _stacked(out, [target], 0) if alone else every_source
        stream, z_ND = model.of(target), out.z[target]
        error_USN, residual_USND = reconstruct(
            values_USNK, stream.dictionary_CD, stream.pre_bias_D, z_ND, support
        )
        error_MN = _relative(error_USN.flatten(0, 1), z_ND, config)
        for s, error_N in zip([t] if alone else range(len(names)), error_MN, strict=True):
            both_N = present_NS[:, s] & present_NS[:, t]
            term = (error_N * both_N).sum() / pairs_SS[s, t].clamp_min(1)
            (self_terms if s == t else cross_terms).append(term)
        if dead_SC is not None:
            residuals[target] = -residual_USND.flatten(0, 1)[0 if alone else t]
    zero = self_terms[0].new_zeros(())
    self_ = torch.stack(self_terms).mean()
    cross = torch.stack(cross_terms).mean() if cross_terms else zero
    auxk = zero if dead_SC is None else auxk_loss(model, out.z, residuals, dead_SC, config, group)
    total = self_ + config.cross_weight * cross + config.auxk_weight * auxk
    if aligned is None:
        return Losses(total, self_, cross, auxk, zero, zero, zero)
    assert config.selector is not None
    return Losses(total + aligned.total(config.selector), self_, cross, auxk, *aligned)


def _stacked(out: Forward, sources: list[str], num_concepts: int) -> tuple[Tensor, Support]:
    """Values [U, S, N, K] of the sources over their one support (U = 1) or one each (S = 1)."""
    values_SNK = torch.stack([out.codes[s].values_NK for s in sources])
    supports = [out.supports[s] for s in sources]
    if all(support is supports[0] for support in supports):
        return values_SNK[None], supports[0]
    indices_UNK = torch.cat([support.indices_UNK for support in supports])
    return values_SNK[:, None], Support.of(indices_UNK, num_concepts)


def _relative(error_SN: Tensor, z_ND: Tensor, config: FitConfig) -> Tensor:
    if config.method == "sparc":
        return error_SN / z_ND.square().sum(1).clamp_min(1e-12)
    return error_SN
