"""Named full configurations: which encoders, which source, how to fit. Reads no files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from koine.streams import ImagePreprocess
from training.configs import FitConfig, aligned
from training.encoders.config import EncoderConfig

Source = Literal["captions-folder", "webdataset", "coco", "open-images"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Everything between photographs and a fitted dictionary."""

    name: str
    """As on the command line."""
    source: Source
    """How the data folder is laid out."""
    streams: Mapping[str, EncoderConfig]
    """Stream name → encoder."""
    fit: FitConfig
    """How the dictionary is fitted."""
    encoders: Path | None = None
    """Folder that relative weights are looked up in; the command line may name another."""
    joins: Mapping[str, EncoderConfig] = field(default_factory=dict)
    """Encoders that may join a fitted dictionary later (`extract --join`, `extend`)."""

    def encoders_of(self, joining: Sequence[str] = ()) -> dict[str, EncoderConfig]:
        """The recipe's encoders, then those that join; ValueError for one it does not know."""
        unknown = [name for name in joining if name not in self.joins]
        if unknown:
            known = ", ".join(f"`{name}`" for name in self.joins) or "none"
            raise ValueError(
                f"recipe `{self.name}` knows no encoder `{unknown[0]}` that may join: it has "
                f"{known}; add it to the recipe's `joins`"
            )
        return {**self.streams, **{name: self.joins[name] for name in joining}}


def demo() -> Recipe:
    """The built-in corpus with the small encoders trained on it."""
    from training.demo.streams import ENCODERS, STREAMS

    fit = FitConfig(num_concepts=256, k=16, steps=1500, validate_every=100, checkpoint_every=250)
    return Recipe(
        name="demo", source="captions-folder", streams=STREAMS, fit=fit, encoders=ENCODERS
    )


def photos() -> Recipe:
    """A few thousand captioned photographs, two MobileNets and MiniLM."""
    imagenet = ImagePreprocess(
        resize_size=256,
        crop_size=224,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    mobilenets = {
        stream: EncoderConfig(
            kind="timm",
            modality="image",
            name=name,
            weights=weights,
            pooling="avg",
            kwargs={"pad_type": "same"},
            preprocess=imagenet,
        )
        for stream, name, weights in (
            ("mobilenetv1", "mobilenetv1_100", "mobilenetv1_100"),
            ("mobilenetv2", "mobilenetv2_100", "mobilenetv2_100"),
            ("birds", "mobilenetv2_100", "mobilenetv2_100_inat_birds"),
        )
    }
    birds = mobilenets.pop("birds")
    minilm = EncoderConfig(
        kind="transformers",
        modality="text",
        name="all-MiniLM-L6-v2",
        weights="minilm",
        pooling="mean",
        context_length=64,
    )
    return Recipe(
        name="photos",
        source="captions-folder",
        streams={**mobilenets, "minilm": minilm},
        fit=aligned(num_concepts=1024, k=32, steps=400, validate_every=50, checkpoint_every=50),
        joins={"birds": birds},
    )


def open_images() -> Recipe:
    """The paper's Open Images set-up (arXiv 2507.06265): its encoders, sizes and epochs."""
    return Recipe(
        name="open-images",
        source="open-images",
        streams=_paper_streams("ViT-L-14", "vit_large_patch14_reg4_dinov2.lvd142m"),
        fit=aligned(num_concepts=8192, k=64, epochs=50.0, dead_after=1000),
    )


def coco() -> Recipe:
    """The paper's MS COCO set-up: base-size encoders. Captions are drawn, not joined."""
    return Recipe(
        name="coco",
        source="coco",
        streams=_paper_streams("ViT-B-16", "vit_base_patch14_reg4_dinov2.lvd142m"),
        fit=aligned(num_concepts=8192, k=64, epochs=50.0, dead_after=1000),
    )


def _paper_streams(clip: str, dino: str) -> dict[str, EncoderConfig]:
    tag = "datacomp_xl_s13b_b90k"
    vision = EncoderConfig(
        kind="timm",
        modality="image",
        name=dino,
        weights=f"timm/{dino}",
        pooling="cls",
        kwargs={"img_size": 224},
        preprocess=ImagePreprocess(
            resize_size=256,
            crop_size=224,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
    )
    return {
        "dino": vision,
        "clip_image": EncoderConfig(kind="open_clip", modality="image", name=clip, weights=tag),
        "clip_text": EncoderConfig(kind="open_clip", modality="text", name=clip, weights=tag),
    }


RECIPES: dict[str, Callable[[], Recipe]] = {
    "demo": demo,
    "photos": photos,
    "open-images": open_images,
    "coco": coco,
}
"""Recipe name → function that returns it."""
