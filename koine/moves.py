"""Images moved below a network's stride and their maps interleaved; runs no network.

Shift-and-stitch (Long et al. 2015, section 3.2): a map of G × G patches becomes one of
(moves · G)², for moves² times the work.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float32, UInt8

from koine.types import ImagesNHWC

PatchesNPD = Float32[np.ndarray, "N P D"]
MovedMHWC = UInt8[np.ndarray, "M H W 3"]
"""Copies of images, M = N · moves²."""


def moved(images_NHWC: ImagesNHWC, moves: int, stride: int) -> MovedMHWC:
    """Each image `moves`² times, by parts of `stride` pixels down and across; edges are repeated.

    The copies of an image follow each other, rows of moves first. One move is the image itself.
    """
    if moves == 1:
        return images_NHWC
    height, width = images_NHWC.shape[1:3]
    edges = ((0, 0), (stride, stride), (stride, stride), (0, 0))
    padded_NHWC = np.pad(images_NHWC, edges, mode="edge")
    # so that finer patch number `place` is in the middle of a patch of the network's own
    starts = [stride + round((place + 0.5) * stride / moves - stride / 2) for place in range(moves)]
    copies = [
        padded_NHWC[:, top : top + height, left : left + width] for top in starts for left in starts
    ]
    return np.stack(copies, 1).reshape(-1, *images_NHWC.shape[1:])


def interleaved(patches_MPD: Float32[np.ndarray, "M G D"], moves: int) -> PatchesNPD:
    """The maps of `moved` images as one finer map for each image, rows of patches first."""
    if moves == 1:
        return patches_MPD
    side, width = math.isqrt(patches_MPD.shape[1]), patches_MPD.shape[2]
    apart = patches_MPD.reshape(-1, moves, moves, side, side, width)  # N, V, U, row, column, D
    joined = apart.transpose(0, 3, 1, 4, 2, 5)
    return np.ascontiguousarray(joined).reshape(-1, (side * moves) ** 2, width)
