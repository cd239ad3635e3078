"""What a stream is, as data that travels in the store and the artifact; loads no encoder."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from koine.types import Modality

STREAM_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


class Spec(BaseModel):
    """Frozen data with no unknown keys: a misspelt or newer field is refused, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ImagePreprocess(Spec):
    """How an image becomes the uint8 array that a backbone reads; normalisation is in the graph."""

    kind: Literal["image"] = "image"
    resize: Literal["shortest", "squash"] = "shortest"
    """`shortest`: the shorter side becomes `resize_size`, aspect kept; `squash`: both sides do."""
    resize_size: int = Field(gt=0, le=4096)
    """Pixels."""
    crop_size: int = Field(gt=0, le=4096)
    """Side of the centred square that is kept, in pixels."""
    interpolation: Literal["bicubic", "bilinear", "nearest"] = "bicubic"
    mean: tuple[float, float, float]
    """Per RGB channel, for pixels in [0, 1]."""
    std: tuple[float, float, float]
    """Per RGB channel, for pixels in [0, 1]."""

    @model_validator(mode="after")
    def _crop_fits(self) -> ImagePreprocess:
        if self.crop_size > self.resize_size:
            raise ValueError(
                f"`crop_size` {self.crop_size} is larger than `resize_size` {self.resize_size}"
            )
        if min(self.std) <= 0:
            raise ValueError(f"`std` must be positive, got {self.std}")
        return self


class TextPreprocess(Spec):
    """How a text becomes token ids; the tokenizer itself is a `tokenizer.json` beside it."""

    kind: Literal["text"] = "text"
    tokenizer: str
    """File of the tokenizer (the `tokenizers` library's JSON), relative to where the spec lies."""
    tokenizer_sha256: str
    context_length: int = Field(gt=1, le=8192)
    """Tokens kept, special tokens included; longer texts are cut and keep their end token."""
    clean: Literal["clip_lower", "clip_whitespace", "clip_canonicalize", "none"] = "none"
    """What open_clip does first: ftfy, HTML unescape, whitespace collapsed, and then lower case
    and its split into words, nothing, or no punctuation and lower case; `none`: nothing at all."""
    pad_id: int = 0
    fixed_length: bool = True
    """Pad to `context_length` always (open_clip), or to the batch's longest text."""


Preprocess = Annotated[ImagePreprocess | TextPreprocess, Field(discriminator="kind")]


class EncoderIdentity(Spec):
    """Which encoder made a stream's activations."""

    kind: Literal["open_clip", "timm", "transformers", "onnx"]
    name: str
    """Architecture or model name as its library spells it."""
    revision: str
    """`sha256:` of the weights, so that two sets of weights are never taken for one."""
    pooling: str
    """How tokens or a feature map become one vector: `projected`, `cls`, `avg`, `map`, `mean`."""


class StreamSpec(Spec):
    """One encoder and modality feeding the dictionary."""

    name: str
    modality: Modality
    d_in: int = Field(gt=0, le=65536)
    """Width D of the activations."""
    encoder: EncoderIdentity | None = None
    """None for imported activations."""
    preprocess: Preprocess | None = None

    @field_validator("name")
    @classmethod
    def _name_is_plain(cls, name: str) -> str:
        if not STREAM_NAME.fullmatch(name):
            raise ValueError(
                f"stream name {name!r}: use lower-case letters, digits and `_`, first a letter"
            )
        return name

    @model_validator(mode="after")
    def _preprocess_fits(self) -> StreamSpec:
        kind = self.preprocess.kind if self.preprocess else "vector"
        if kind != self.modality:
            raise ValueError(
                f"stream `{self.name}` reads {self.modality} but its preprocess is for {kind}"
            )
        if (self.encoder is None) != (self.preprocess is None):
            raise ValueError(f"stream `{self.name}` needs both `encoder` and `preprocess`, or none")
        return self
