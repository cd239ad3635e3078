"""What fitting minimises: self, cross and AuxK reconstruction; knows no optimizer and no data.

Squared errors are per item. `koine` works on streams centred and scaled to unit mean square, so
an error is already a fraction of variance; `sparc` divides each item's error by its squared norm
(the uncentred NMSE of arXiv 2507.06265's code) and takes means, not sums, over streams and pairs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from training.configs import FitConfig
from training.model import AlignedDictionary, TopK, select, weighted_rows
from training.parallel import ALONE, Group


class Losses(NamedTuple):
    """Means over items and streams or pairs; scalars on the training device."""

    total: Tensor
    self_: Tensor
    cross: Tensor
    auxk: Tensor


class Forward(NamedTuple):
    """What one step computed, for the losses and for counting dead latents."""

    z: dict[str, Tensor]
    """Normalised inputs [N, D]."""
    pre: dict[str, Tensor]
    """Pre-codes [N, C]."""
    codes: dict[str, TopK]
    """Selected codes of each stream."""


def forward(
    model: AlignedDictionary,
    acts: dict[str, Tensor],
    selecting_NS: Bool[Tensor, "N S"],
) -> Forward:
    """Pre-codes and codes; the streams marked in `selecting_NS` choose an item's support."""
    z = {name: model.of(name).normalise(x) for name, x in acts.items()}
    pre = {name: model.of(name).pre_codes(z_ND).float() for name, z_ND in z.items()}
    k = model.config.k
    if model.config.selection == "global":
        supports = dict.fromkeys(pre, select(list(pre.values()), k, selecting_NS))
    else:
        supports = {name: select([p], k) for name, p in pre.items()}
    codes = {n: TopK(supports[n], p.gather(1, supports[n]).relu()) for n, p in pre.items()}
    return Forward(z, pre, codes)


def losses(
    model: AlignedDictionary,
    out: Forward,
    present_NS: Bool[Tensor, "N S"],
    dead_SC: Bool[Tensor, "S C"] | None,
    config: FitConfig,
    group: Group = ALONE,
) -> Losses:
    """Self + cross_weight · cross + auxk_weight · AuxK; `dead_SC` None leaves AuxK out.

    Each worker of `group` gets its share: the workers' losses, and their gradients, add up to
    those of the whole batch.
    """
    names = list(out.z)
    pairs_SS = group.sum((present_NS[:, :, None] & present_NS[:, None, :]).sum(0))
    self_terms: list[Tensor] = []
    cross_terms: list[Tensor] = []
    aux_terms: list[Tensor] = []
    for t, target in enumerate(names):
        sources = names if config.cross_weight > 0 else [target]
        stacked = TopK(
            *(torch.cat(parts) for parts in zip(*(out.codes[s] for s in sources), strict=True))
        )
        stream = model.of(target)
        decoded_MD = weighted_rows(stacked, stream.dictionary_CD) + stream.pre_bias_D
        for source, recon_ND in zip(sources, decoded_MD.chunk(len(sources)), strict=True):
            s = names.index(source)
            both_N = present_NS[:, s] & present_NS[:, t]
            error_N = _item_error(recon_ND, out.z[target], config)
            term = (error_N * both_N).sum() / pairs_SS[s, t].clamp_min(1)
            (self_terms if s == t else cross_terms).append(term)
            if s == t and dead_SC is not None:
                aux = _sparc_auxk if config.method == "sparc" else _auxk
                aux_terms.append(aux(model, out, target, recon_ND, dead_SC[t], config, group))
    zero = self_terms[0].new_zeros(())
    self_ = torch.stack(self_terms).mean()
    cross = torch.stack(cross_terms).mean() if cross_terms else zero
    auxk = torch.stack(aux_terms).mean() if aux_terms else zero
    total = self_ + config.cross_weight * cross + config.auxk_weight * auxk
    return Losses(total, self_, cross, auxk)


def _item_error(recon_ND: Tensor, z_ND: Tensor, config: FitConfig) -> Float[Tensor, "N"]:
    error_N = (recon_ND - z_ND).square().sum(1)
    if config.method == "sparc":
        return error_N / z_ND.square().sum(1).clamp_min(1e-12)
    return error_N


def _auxk_codes(scores_NC: Tensor, pre_NC: Tensor, num_auxk: int) -> Float[Tensor, "N C"]:
    chosen: Int64[Tensor, "N A"] = scores_NC.topk(num_auxk, dim=1).indices
    return torch.zeros_like(pre_NC).scatter(1, chosen, pre_NC.gather(1, chosen).relu())


def _auxk(
    model: AlignedDictionary,
    out: Forward,
    name: str,
    recon_ND: Tensor,
    dead_C: Bool[Tensor, "C"],
    config: FitConfig,
    group: Group,
) -> Tensor:
    """The dead latents of a stream reconstruct its residual (Gao et al. 2024, arXiv 2406.04093).

    They are ranked by the streams' summed pre-codes, so that a latent dead everywhere comes back
    for the same items in every stream. The residual is a constant; no bias enters.
    """
    residual_ND = (out.z[name] - recon_ND).detach()
    joint_NC = torch.stack([p.detach() for p in out.pre.values()]).sum(0)
    alive_C = ~dead_C
    codes_NC = _auxk_codes(
        joint_NC.masked_fill(alive_C, -torch.inf), out.pre[name], config.num_auxk
    )
    codes_NC = codes_NC.masked_fill(alive_C, 0)
    recon_aux_ND = codes_NC @ model.of(name).dictionary_CD
    error = (recon_aux_ND - residual_ND).square().sum()
    return error / group.sum(residual_ND.square().sum()).clamp_min(1e-12)


def _sparc_auxk(
    model: AlignedDictionary,
    out: Forward,
    name: str,
    recon_ND: Tensor,
    dead_C: Bool[Tensor, "C"],
    config: FitConfig,
    group: Group,
) -> Tensor:
    """AuxK as SPARC's code has it: alive pre-codes zeroed, pre-bias in both sides of the error."""
    stream = model.of(name)
    masked_NC = out.pre[name].masked_fill(~dead_C, 0)
    codes_NC = _auxk_codes(masked_NC, masked_NC, config.num_auxk)
    target_ND = out.z[name] - recon_ND.detach() + stream.pre_bias_D.detach()
    recon_aux_ND = codes_NC @ stream.dictionary_CD + stream.pre_bias_D
    error_N = (recon_aux_ND - target_ND).square().sum(1)
    share_N = error_N / target_ND.square().sum(1).clamp_min(1e-12)
    return share_N.sum() / (len(share_N) * group.size)
