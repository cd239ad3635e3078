"""The shape legend and the array types of public borders; holds no code.

Suffixes on names say the shape:
    N items   S streams   D stream width   C concepts   K active per item
    P patches   H W image height and width   T tokens   B batch of a shard
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

Modality = Literal["image", "text", "vector"]
"""What a stream's encoder reads; `vector` streams have no encoder and take activations only."""

Mode = Literal["independent", "joint"]
"""A stream selects alone, or all present streams of an item select one shared support."""

ActsND = Float32[np.ndarray, "N D"]
ImageHWC = UInt8[np.ndarray, "H W 3"]
ImagesNHWC = UInt8[np.ndarray, "N H W 3"]
TokensNT = Int64[np.ndarray, "N T"]
PresentNS = Bool[np.ndarray, "N S"]
