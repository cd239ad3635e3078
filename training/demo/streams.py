"""The demo's three streams, and one that joins later, as data; loads no library and no weights."""

from __future__ import annotations

from pathlib import Path

from koine.streams import ImagePreprocess
from training.encoders.config import EncoderConfig

ENCODERS = Path(__file__).parent / "encoders"
"""Folder of the committed weights, which `weights` below are relative to."""

CLIP_IMAGE = EncoderConfig(
    kind="open_clip", modality="image", name="koine-demo-clip", weights="clip"
)
CLIP_TEXT = EncoderConfig(kind="open_clip", modality="text", name="koine-demo-clip", weights="clip")
VISION = EncoderConfig(
    kind="timm",
    modality="image",
    name="resnet10t",
    weights="vision",
    pooling="avg",
    kwargs={"channels": (32, 64, 128, 192), "stem_width": 16},
    preprocess=ImagePreprocess(
        resize_size=64, crop_size=64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
    ),
)
LATE = EncoderConfig(
    kind="timm",
    modality="image",
    name="resnet18",
    weights="random:1",
    pooling="avg",
    preprocess=VISION.preprocess,
)
STREAMS: dict[str, EncoderConfig] = {
    "clip_image": CLIP_IMAGE,
    "clip_text": CLIP_TEXT,
    "vision": VISION,
}
"""Stream name → its encoder, in the order of the recipe."""
JOINS: dict[str, EncoderConfig] = {"late": LATE}
"""Joins later: another architecture, wider and untrained, so that no weights need to be kept.
Random convolutions tell colours and backgrounds."""
