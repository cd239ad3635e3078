"""Small real encoders in their libraries' own formats, written once per session."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

TEXT_CFG = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
MODEL_CFG = {
    "embed_dim": 24,
    "vision_cfg": {
        "image_size": 48,
        "layers": 2,
        "width": 32,
        "patch_size": 16,
        "head_width": 16,
    },
    "text_cfg": TEXT_CFG,
}
PREPROCESS_CFG = {
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.3, 0.4],
    "interpolation": "bilinear",
    "resize_mode": "squash",
}


def write_clip(folder: Path, model_cfg: dict[str, object], seed: int = 0) -> Path:
    """A CLIP with random weights as a directory in open_clip's format."""
    folder.mkdir(parents=True)
    config = {"model_cfg": model_cfg, "preprocess_cfg": PREPROCESS_CFG}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(seed)
    model = open_clip.CLIP(**model_cfg)  # type: ignore[arg-type]
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(0.05 * torch.randn_like(tensor))  # no zero biases, no unit scales
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "small-clip", MODEL_CFG)


@pytest.fixture(scope="session")
def images() -> list[Image.Image]:
    """Noise of several sizes and aspects."""
    rng = np.random.default_rng(5)
    sizes = [(64, 64), (90, 41), (33, 120), (48, 48)]
    return [
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for width, height in sizes
    ]


CAPTIONS = ["a dog runs on grass", "Two MEN's hats &amp; a cat", "x", "a " * 200]
