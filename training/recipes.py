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
class Thresholds:
    """What a dictionary must reach for a GO; None leaves a question out.

    All figures of alignment are those of independent encoding, as in production.
    """

    items: float | None = 300.0
    """Held-out items at least: with 300 a share is known to ± .06 (95 %)."""
    agreement: float | None = 0.3
    """Adjusted agreement at least, mean over pairs: at a Jaccard of .3 two streams share nearly
    half of the concepts that they activate for an item."""
    weakest_agreement: float | None = 0.15
    """The same of the pair that agrees least: a mean can hide a stream that never joined."""
    retrieval_of_raw: float | None = 0.8
    """R@10 of codes at least, as a share of what a linear map between the raw activations
    reaches: a dictionary that loses more than a fifth is no stand-in for them."""
    own_fvu: float | None = 0.5
    """Variance of a stream that its own codes may lose: above one half they leave out more than
    they say."""
    other_fvu: float | None = 0.9
    """The same from another stream's codes; 1 is no better than always answering the mean."""
    dead: float | None = 0.05
    """Share of concepts that may never fire: they are paid for and say nothing."""
    warnings: float | None = 0.0
    """Warnings of the collapse guard that may stand: each says that the agreement is too cheap."""
    named: float | None = 0.5
    """Share of the concepts in use with a name: below one half, who opens a code meets more
    numbers than words."""
    checked: float | None = 0.1
    """Share of the named concepts that a person has decided on: a tenth is a sample that tells
    good names from bad ones. Nobody's check is no GO."""
    confirmed: float | None = 0.8
    """Share of the checked concepts that people verified or renamed, rather than rejected."""
    over_controls: float | None = None
    """Adjusted agreement above the best trained baseline's; needs `--controls`."""
    items_per_second: float | None = None
    """Of the slowest stream, on the machine that evaluates: only you know what you need."""


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
    thresholds: Thresholds = Thresholds()
    """What the report's checklist asks for."""
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
    from training.demo.streams import ENCODERS, JOINS, STREAMS

    fit = FitConfig(num_concepts=256, k=16, steps=1500, validate_every=100, checkpoint_every=250)
    return Recipe(
        name="demo",
        source="captions-folder",
        streams=STREAMS,
        fit=fit,
        encoders=ENCODERS,
        joins=JOINS,
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
