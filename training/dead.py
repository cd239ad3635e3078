"""Latents that no longer fire: counted per stream, and brought back to life.

`koine` resamples a latent dead in every stream from an item that is badly reconstructed, the same
item for all streams, so that it comes back aligned; `sparc` re-initialises as published.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from training.configs import FitConfig
from training.losses import Forward
from training.model import AlignedDictionary, TopK, weighted_rows
from training.parallel import ALONE, Group

FIRES_ABOVE = 1e-3
"""A code below this does not count as firing (SPARC's `auxk_threshold`)."""


class DeadLatents:
    """Steps since each latent of each stream last fired; advances in training steps only."""

    def __init__(
        self,
        streams: tuple[str, ...],
        config: FitConfig,
        device: torch.device,
        group: Group = ALONE,
    ) -> None:
        self._group = group
        self._streams = streams
        self._config = config
        self.idle_steps_SC: Int64[Tensor, "S C"] = torch.zeros(
            len(streams), config.num_concepts, dtype=torch.int64, device=device
        )

    def update(self, codes: dict[str, TopK], counted_N: Bool[Tensor, "N"]) -> None:
        """Count one step; latents that fire for a counted item of the batch start again at 0.

        Items that one stream chose for alone are better not counted: a latent that fires for
        them only is private to that stream, and shared ones are what the dictionary is for.
        """
        self.idle_steps_SC += 1
        for row, name in enumerate(self._streams):
            fired_NK = (codes[name].values_NK > FIRES_ABOVE) & counted_N[:, None]
            fired_C = fired_NK.new_zeros(self.idle_steps_SC.shape[1], dtype=torch.uint8)
            at_P, fired_P = codes[name].indices_NK.flatten(), fired_NK.flatten().to(torch.uint8)
            fired_C.scatter_reduce_(0, at_P, fired_P, "amax")  # by mask: nothing waits for a GPU
            self.idle_steps_SC[row].masked_fill_(fired_C.bool(), 0)
        self._group.least(self.idle_steps_SC)  # 0 where a latent fired for any worker's item

    def mask(self) -> Bool[Tensor, "S C"]:
        """True where a latent of a stream is dead."""
        return self.idle_steps_SC > self._config.dead_after

    def reinitialise(self, model: AlignedDictionary, step: int) -> None:
        """SPARC: encoder row ← 0.01 · randn, latent bias ← 0, counter ← 0, for each dead latent.

        Decoder rows and Adam's moments stay as they are, as published.
        """
        dead_SC = self.mask()
        generator = torch.Generator().manual_seed(self._config.seed * 1_000_003 + step)
        with torch.no_grad():
            for row, name in enumerate(self._streams):
                stream = model.of(name)
                noise_CD = torch.randn(stream.encoder_CD.shape, generator=generator)
                dead_C = dead_SC[row]
                noise_CD = noise_CD.to(stream.encoder_CD) * 0.01
                stream.encoder_CD[dead_C] = noise_CD[dead_C]
                stream.latent_bias_C[dead_C] = 0
        self.idle_steps_SC[dead_SC] = 0

    @torch.no_grad()
    def resample(
        self,
        model: AlignedDictionary,
        optimizer: torch.optim.Optimizer,
        out: Forward,
        present_NS: Bool[Tensor, "N S"],
        step: int,
    ) -> None:
        """Give each latent dead in all streams the residual of one hard item of the batch.

        Items are drawn with probability proportional to their squared error (as Bricken et al.
        2023, "Towards Monosemanticity", do for one stream). In each stream the latent's decoder
        row becomes the item's residual direction and its encoder row that direction scaled so
        that the item selects it. Adam's moments of the rows start at 0. Items that lack a stream
        are not drawn.
        """
        dead_L = self.mask().all(0).nonzero()[:, 0]
        residuals = {name: _residual(model, out, name) for name in self._streams}
        error_N = torch.stack([r.square().sum(1) for r in residuals.values()]).sum(0)
        weight_N = self._group.whole(error_N * present_NS.all(1)).cpu()
        count = min(len(dead_L), int((weight_N > 0).sum()))
        if count == 0:
            return
        generator = torch.Generator().manual_seed(self._config.seed * 1_000_003 + step)
        item_L = torch.multinomial(weight_N, count, generator=generator).to(dead_L.device)
        dead_L = dead_L[:count]
        for row, name in enumerate(self._streams):
            z_LD = self._group.items(out.z[name], item_L)
            residual_LD = self._group.items(residuals[name], item_L)
            _replant(model, optimizer, name, dead_L, z_LD, residual_LD)
            self.idle_steps_SC[row, dead_L] = 0


def _residual(model: AlignedDictionary, out: Forward, name: str) -> Tensor:
    stream = model.of(name)
    return out.z[name] - weighted_rows(out.codes[name], stream.dictionary_CD) - stream.pre_bias_D


def _replant(
    model: AlignedDictionary,
    optimizer: torch.optim.Optimizer,
    name: str,
    dead_L: Int64[Tensor, "L"],
    z_LD: Tensor,
    residual_LD: Tensor,
) -> None:
    stream = model.of(name)
    direction_LD = torch.nn.functional.normalize(residual_LD, dim=1)
    reached_L = ((z_LD - stream.pre_bias_D) * direction_LD).sum(1)
    needed_L = stream.pre_codes(z_LD).topk(model.config.k, dim=1).values[:, -1]
    limit = 2 * stream.encoder_CD.norm(dim=1).mean()  # a hardly aligned item must not blow up a row
    gain_L = torch.where(reached_L > 0, 1.1 * needed_L.clamp_min(0) / reached_L, limit)
    stream.encoder_CD[dead_L] = direction_LD * torch.minimum(gain_L, limit)[:, None]
    stream.dictionary_CD[dead_L] = direction_LD
    stream.latent_bias_C[dead_L] = 0
    for parameter in (stream.encoder_CD, stream.dictionary_CD, stream.latent_bias_C):
        state = optimizer.state[parameter]
        state["exp_avg"][dead_L] = 0
        state["exp_avg_sq"][dead_L] = 0
