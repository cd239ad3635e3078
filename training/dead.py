"""Latents that no longer fire: counted per stream, and re-initialised as SPARC does it."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from training.configs import FitConfig
from training.model import AlignedDictionary, TopK

FIRES_ABOVE = 1e-3
"""A code below this does not count as firing (SPARC's `auxk_threshold`)."""


class DeadLatents:
    """Steps since each latent of each stream last fired; advances in training steps only."""

    def __init__(self, streams: tuple[str, ...], config: FitConfig, device: torch.device) -> None:
        self._streams = streams
        self._config = config
        self.idle_steps_SC: Int64[Tensor, "S C"] = torch.zeros(
            len(streams), config.num_concepts, dtype=torch.int64, device=device
        )

    def update(self, codes: dict[str, TopK]) -> None:
        """Count one step; latents that fire in the batch start again at 0."""
        self.idle_steps_SC += 1
        for row, name in enumerate(self._streams):
            fired_NK = codes[name].values_NK > FIRES_ABOVE
            self.idle_steps_SC[row, codes[name].indices_NK[fired_NK]] = 0

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
