"""Image backbones that stop before their pooling: one row per patch; knows no concept.

A pooling that is linear in the patches can be split over them: `acts` is the mean of the rows, so
whatever is linear in `acts`, as a pre-code is, falls exactly into one part per patch. An average
pool is split as it is. open_clip's attention pool is linear in its values once its weights are
known: a patch's row is its weighted value through the output projection, with its share of the
mean token and of the biases. Patches finer than the network's stride come from moved images.
"""

from __future__ import annotations

import copy
import math
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from open_clip.modified_resnet import AttentionPool2d
from torch import Tensor, nn

from koine.shift_and_stitch import PatchesNPD, shifted, stitched
from koine.streams import ImagePreprocess
from koine.types import ImagesNHWC
from training.encoders.encoder import Encoder
from training.encoders.pixels import ImageModule
from training.encoders.timm_vision import PooledModel

FINE_ENOUGH = 7
"""Patches along a side from which the image is not moved."""
TOLERANCE = 1e-4
"""Of the activations' norm, that the patches' mean may be apart: a sum in another order."""
_BATCH = 64


class Attended(NamedTuple):
    """An attention pool taken apart."""

    attention_NHT: Tensor
    """Weights of the mean token's heads over the mean token and the patches."""
    values_NTHE: Tensor
    """E = width / heads."""


def attend(pool: AttentionPool2d, map_NCHW: Tensor) -> Attended:
    """What the pool's query, the mean token, looks at, and what it finds there."""
    tokens_NPC = map_NCHW.flatten(2).transpose(1, 2)
    mean_N1C = tokens_NPC.mean(1, keepdim=True)
    tokens_NTC = torch.cat([mean_N1C, tokens_NPC], 1) + pool.positional_embedding
    heads, width = pool.num_heads, tokens_NTC.shape[-1]
    shape = (*tokens_NTC.shape[:2], heads, width // heads)
    keys_NTHE = pool.k_proj(tokens_NTC).reshape(shape)
    query_NHE = pool.q_proj(tokens_NTC[:, 0]).reshape(-1, heads, width // heads)
    logits_NHT = torch.einsum("nhe,nthe->nht", query_NHE, keys_NTHE) / math.sqrt(width // heads)
    return Attended(logits_NHT.softmax(-1), pool.v_proj(tokens_NTC).reshape(shape))


class AttentionPoolPatches(nn.Module):
    """open_clip's attention pool, split over the patches of its map."""

    def __init__(self, pool: AttentionPool2d) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, map_NCHW: Tensor) -> Tensor:
        pool = self.pool
        attention_NHT, values_NTHE = attend(pool, map_NCHW)
        patches = map_NCHW.shape[2] * map_NCHW.shape[3]
        own_NPHE = values_NTHE[:, 1:] * attention_NHT[:, :, 1:].transpose(1, 2).unsqueeze(-1)
        tokens_NPC = map_NCHW.flatten(2).transpose(1, 2) + pool.positional_embedding[0]
        shared_NPHE = pool.v_proj(tokens_NPC).reshape(own_NPHE.shape) / patches
        shared_NPHE = shared_NPHE * attention_NHT[:, None, :, 0, None]
        rows_NPD = nn.functional.linear((own_NPHE + shared_NPHE).flatten(2), pool.c_proj.weight)
        return rows_NPD * patches + pool.c_proj.bias


class AveragePatches(nn.Module):
    """A map whose mean is the activations."""

    def forward(self, map_NCHW: Tensor) -> Tensor:
        return map_NCHW.flatten(2).transpose(1, 2)


class TimmMap(nn.Module):
    """A timm model up to its spatial map, tokens laid out as one."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self._prefix = int(getattr(model, "num_prefix_tokens", 0))

    def forward(self, images_NCHW: Tensor) -> Tensor:
        features = self.model.forward_features(images_NCHW)
        if features.ndim == 4:
            return features
        tokens_NDP = features[:, self._prefix :].transpose(1, 2)
        side = math.isqrt(tokens_NDP.shape[-1])
        return tokens_NDP.unflatten(-1, (side, side))


class PatchModule(nn.Module):
    """uint8 `images_NHWC` to float32 `patches_NPD`, rows of the network's own patches first."""

    def __init__(self, pixels: nn.Module, trunk: nn.Module, split: nn.Module) -> None:
        super().__init__()
        self.pixels, self.trunk, self.split = pixels, trunk, split
        self.moves = 1
        """Along each side, for `fine`; set once the network's map is measured, as the others."""
        self.stride = 0
        self.side = 0
        """Patches along a side of `fine`."""

    def forward(self, images_NHWC: Tensor) -> Tensor:
        return self.split(self.trunk(self.pixels(images_NHWC)))

    @torch.no_grad()
    def fine(self, images_NHWC: ImagesNHWC) -> PatchesNPD:
        """Patches of the images and of their moved copies, interleaved: side² of each."""
        moved_NHWC = torch.from_numpy(shifted(images_NHWC, self.moves, self.stride))
        parts = [self(batch).numpy() for batch in moved_NHWC.split(_BATCH)]
        return stitched(np.concatenate(parts), self.moves)


def patch_module(encoder: Encoder, moves: int | None = None) -> PatchModule | None:
    """The encoder stopped before its pooling; None where its pooling cannot be split.

    `moves` along each side; None moves a map coarser than `FINE_ENOUGH`.
    """
    module, spec = encoder.module, encoder.preprocess
    if not isinstance(module, ImageModule) or not isinstance(spec, ImagePreprocess):
        return None
    parts = _parts(module.tower)
    if parts is None:
        return None
    found = PatchModule(module.pixels, *parts).eval()
    side = spec.crop_size
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (2, side, side, 3), generator=generator, dtype=torch.uint8)
        patches_NPD, acts_ND = found(images), module(images)
    apart = (patches_NPD.mean(1) - acts_ND).norm() / acts_ND.norm()
    grid = math.isqrt(patches_NPD.shape[1])
    if apart > TOLERANCE or grid * grid != patches_NPD.shape[1]:
        return None
    found.stride = side // grid
    if moves is None:
        moves = -(-FINE_ENOUGH // grid)
        moves = 1 if grid >= FINE_ENOUGH or side % grid else 1 << (moves - 1).bit_length()
    found.moves, found.side = moves, grid * moves
    return found


def _parts(tower: nn.Module) -> tuple[nn.Module, nn.Module] | None:
    """Trunk to the last map, and what splits its pooling."""
    if isinstance(tower, PooledModel):
        return TimmMap(tower.model), AveragePatches()
    pool = getattr(tower, "attnpool", None)
    if isinstance(pool, AttentionPool2d):
        trunk = copy.copy(tower)
        trunk._modules = {**tower._modules, "attnpool": nn.Identity()}
        return trunk, AttentionPoolPatches(cast("AttentionPool2d", pool))
    return None
