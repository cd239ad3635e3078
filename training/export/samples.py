"""Images and texts for the parity gate: the activation store keeps captions but no pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

TEXTS = (
    "a",
    "A photo of a dog on grass.",
    "two red squares left of a small blue circle, seen from above",
    "Ein Café in Zürich; naïve façade, 100 % sûr!",
    "the quick brown fox jumps over the lazy dog " * 12,
)
"""Short, long, accented: what captions may miss."""


def sample_images(count: int, seed: int = 0) -> list[Image.Image]:
    """Half noise in every pixel, half smooth as photographs are; sizes and shapes vary."""
    rng = np.random.default_rng(seed)
    images: list[Image.Image] = []
    for i in range(count):
        width, height = (int(side) for side in rng.integers(48, 400, 2))
        cells = (height, width) if i % 2 else (int(rng.integers(2, 9)), int(rng.integers(2, 9)))
        pixels = rng.integers(0, 256, (*cells, 3), dtype=np.uint8)
        images.append(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))
    return images


def sample_texts(captions: Sequence[str], count: int) -> list[str]:
    """`TEXTS`, then captions, repeated as often as needed."""
    texts = [*TEXTS, *captions]
    return [texts[i % len(texts)] for i in range(count)]
