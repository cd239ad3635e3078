"""The AuxK loss: dead latents reconstruct what the codes leave over (Gao et al. 2024, 2406.04093).

Only the dead latents' pre-codes are computed, and nothing where none is dead.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from training.configs import FitConfig
from training.kernels.sparse import rows_at
from training.model import AlignedDictionary, Stream
from training.parallel import Group


def auxk_loss(
    model: AlignedDictionary,
    z: dict[str, Tensor],
    residuals: dict[str, Tensor],
    dead_SC: Bool[Tensor, "S C"],
    config: FitConfig,
    group: Group,
) -> Float[Tensor, ""]:
    """Mean over the streams; `residuals` are z minus the self reconstruction, constants.

    Each worker of `group` gets its share of the whole batch's.
    """
    dead_L = dead_SC.any(0).nonzero()[:, 0]
    pre = {name: _pre_codes(model.of(name), z_ND, dead_L) for name, z_ND in z.items()}
    terms = []
    for t, name in enumerate(z):
        alive_L = ~dead_SC[t, dead_L]
        if config.method == "sparc":
            codes_NL = _codes(pre[name].masked_fill(alive_L, 0), pre[name], alive_L, config)
            share_N = _sparc_shares(model.of(name), codes_NL, dead_L, residuals[name])
            terms.append(share_N.sum() / (len(share_N) * group.size))
        else:
            # ranked by the sum, so that a latent dead everywhere comes back for the same items
            joint_NL = torch.stack([p.detach() for p in pre.values()]).sum(0)
            codes_NL = _codes(joint_NL.masked_fill(alive_L, -torch.inf), pre[name], alive_L, config)
            recon_ND = codes_NL @ rows_at(model.of(name).dictionary_CD, dead_L)
            error = (recon_ND - residuals[name]).square().sum()
            whole = group.sum(residuals[name].square().sum())
            terms.append(error / whole.clamp_min(1e-12))
    return torch.stack(terms).mean()


def _pre_codes(stream: Stream, z_ND: Tensor, dead_L: Int64[Tensor, "L"]) -> Float[Tensor, "N L"]:
    return nn.functional.linear(
        z_ND - stream.pre_bias_D, rows_at(stream.encoder_CD, dead_L), stream.latent_bias_C[dead_L]
    )


def _codes(
    scores_NL: Tensor, pre_NL: Tensor, alive_L: Tensor, config: FitConfig
) -> Float[Tensor, "N L"]:
    chosen_NA = scores_NL.topk(min(config.num_auxk, len(alive_L)), dim=1).indices
    codes_NL = torch.zeros_like(pre_NL).scatter(1, chosen_NA, pre_NL.gather(1, chosen_NA).relu())
    return codes_NL.masked_fill(alive_L, 0)


def _sparc_shares(stream: Stream, codes_NL: Tensor, dead_L: Tensor, residual_ND: Tensor) -> Tensor:
    """By item, as SPARC's code has it: the pre-bias stands in both sides of the error."""
    target_ND = residual_ND + stream.pre_bias_D.detach()
    recon_ND = stream.pre_bias_D.expand_as(target_ND)
    if len(dead_L):
        recon_ND = recon_ND + codes_NL @ rows_at(stream.dictionary_CD, dead_L)
    error_N = (recon_ND - target_ND).square().sum(1)
    return error_N / target_ND.square().sum(1).clamp_min(1e-12)
