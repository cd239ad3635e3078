"""Which encoder a stream uses, as data; loads no library and no weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from koine.streams import ImagePreprocess

Kind = Literal["open_clip", "timm", "transformers", "onnx"]
POOLINGS: dict[tuple[str, str], tuple[str, ...]] = {
    ("open_clip", "image"): ("projected",),
    ("open_clip", "text"): ("projected",),
    ("timm", "image"): ("cls", "avg", "map"),
    ("transformers", "text"): ("mean", "cls"),
    ("onnx", "image"): ("graph",),
    ("onnx", "text"): ("graph",),
}
"""What each kind can read, and how it makes one vector of an item; the first is the default."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderConfig:
    """One frozen encoder: library, model, weights, pooling and, where it differs, preprocessing."""

    kind: Kind
    """The library: one of the registry's loaders."""
    modality: Literal["image", "text"]
    """Which tower of a two-tower model, or what the model reads."""
    name: str
    """Architecture as the library spells it (`ViT-L-14`, `mobilenetv2_100`), or a name of yours
    where the weights come as a directory that holds its own description."""
    weights: str
    """A file or directory, absolute or below the encoders folder; else a Hugging Face hub id
    (`org/name`, looked for as `org/name` and `name` below the folder first) or, for open_clip,
    one of its pretrained tags; or `random:SEED` for untrained weights (open_clip and timm)."""
    pooling: str = ""
    """`projected` (open_clip), `cls`, `avg`, `map` (timm), `mean`, `cls` (transformers), `graph`
    (ONNX: one vector already). Empty: the first of these."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Passed on to the library's constructor (`{"pad_type": "same"}`, `{"img_size": 224}`)."""
    preprocess: ImagePreprocess | None = None
    """Replaces the image preprocessing that the library states; required for ONNX image files."""
    context_length: int | None = None
    """Tokens kept of a text. None: what the model states."""

    def __post_init__(self) -> None:
        poolings = POOLINGS.get((self.kind, self.modality))
        if poolings is None:
            known = ", ".join(f"{kind} {modality}" for kind, modality in POOLINGS)
            raise ValueError(f"no encoder of kind {self.kind} reads {self.modality}; use {known}")
        if self.pooling and self.pooling not in poolings:
            raise ValueError(
                f"{self.kind} {self.modality} encoders pool by {', '.join(poolings)}, "
                f"got {self.pooling!r}"
            )
        if not self.pooling:
            object.__setattr__(self, "pooling", poolings[0])
        if self.kind == "onnx" and self.modality == "image" and self.preprocess is None:
            raise ValueError("an ONNX image encoder needs `preprocess`: its file does not state it")
        if self.modality == "text" and self.preprocess is not None:
            raise ValueError("`preprocess` is for images; texts take `context_length`")
        if self.weights.startswith("random:"):
            self._check_random()

    def _check_random(self) -> None:
        if self.kind not in ("open_clip", "timm"):
            raise ValueError(f"random weights need a named architecture, which {self.kind} lacks")
        if not self.weights.removeprefix("random:").isdecimal():
            raise ValueError(f"random weights are `random:SEED`, got {self.weights!r}")

    @property
    def seed(self) -> int | None:
        """Seed of untrained weights, None where weights are loaded."""
        kind, _, seed = self.weights.partition(":")
        return int(seed) if kind == "random" else None
