"""Training writes, koine reads: one artifact, the same answers on every rung."""

from __future__ import annotations

import numpy as np
from PIL import Image

from koine.artifact import Artifact
from koine.encoder import ConceptEncoder


def test_tiny_artifact_encodes_images_and_texts(tiny_artifact: Artifact) -> None:
    encoder = ConceptEncoder(tiny_artifact, providers=["CPUExecutionProvider"], threads=1)
    encoder.warm_up()
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
    pixels = np.stack([encoder.preprocess("tiny_a", image)])
    codes = encoder.encode({"tiny_a": encoder.activations("tiny_a", pixels)})["tiny_a"]
    assert codes.indices_NK.shape == (1, 8)
    assert (codes.values_NK > 0).any()
    tokens = encoder.tokenize("tiny_text", ["a dog on grass", "red square"])
    codes = encoder.encode({"tiny_text": encoder.activations("tiny_text", tokens)})["tiny_text"]
    assert codes.indices_NK.shape == (2, 8)
