"""Finer maps from a coarse network: the image moved below its stride, the maps interleaved.

Shift-and-stitch (Long et al. 2015, section 3.2), outside the network: the moved images are one
batch of it. Knows no network and no concept.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, UInt8

from koine.types import ImagesNHWC

PatchesNPD = Float32[np.ndarray, "N P D"]
MovedMHWC = UInt8[np.ndarray, "M H W 3"]
"""M = N · moves²."""


def shifted(images_NHWC: ImagesNHWC, moves: int, stride: int) -> MovedMHWC:
    """Each image moved `moves` times along each side, [N · moves², H, W, 3]; moves in rows.

    Move (down, across) puts that finer patch in the middle of one of the network's, `stride`
    pixels wide. What a move uncovers repeats the image's edge.
    """
    if moves == 1:
        return images_NHWC
    height, width = images_NHWC.shape[1:3]
    margin = (stride, stride)
    padded_NHWC = np.pad(images_NHWC, ((0, 0), margin, margin, (0, 0)), mode="edge")
    starts = [stride + round((n + 0.5) * stride / moves - stride / 2) for n in range(moves)]
    moved_NMHWC = np.stack(
        [
            padded_NHWC[:, top : top + height, left : left + width]
            for top in starts
            for left in starts
        ],
        axis=1,
    )
    return moved_NMHWC.reshape(-1, *images_NHWC.shape[1:])


def stitched(patches_MQD: Float32[np.ndarray, "M Q D"], moves: int) -> PatchesNPD:
    """The patches of `shifted` images as one finer map of each image, in rows."""
    if moves == 1:
        return patches_MQD
    patches, width = patches_MQD.shape[1:]
    side = round(patches**0.5)
    apart = patches_MQD.reshape(-1, moves, moves, side, side, width)
    return apart.transpose(0, 3, 1, 4, 2, 5).reshape(-1, patches * moves * moves, width)
