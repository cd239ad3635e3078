"""A small folder of captioned images, half of them bright."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image


def write_corpus(folder: Path, images: int = 1000) -> Path:
    """Noise of its own for each image, with words that the tiny text encoder knows."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines: list[str] = []
    for at in range(images):
        bright = at % 2 == 0
        lowest, highest = (128, 256) if bright else (0, 128)
        pixels = rng.integers(lowest, highest, (24, 24, 3), np.uint8)
        name = f"images/{at}.png"
        Image.fromarray(pixels).save(folder / name)
        caption = f"a {'dog' if bright else 'cat'} on grass {at}"
        label = "bright" if bright else "dark"
        lines.append(json.dumps({"image": name, "captions": [caption], "labels": [label]}))
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")
    return folder
