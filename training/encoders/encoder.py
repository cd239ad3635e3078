"""A loaded encoder: items in, activations out; knows nothing of where its weights came from."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import nn

from koine.images import preprocess_image
from koine.streams import EncoderIdentity, ImagePreprocess, Preprocess, StreamSpec, TextPreprocess
from koine.texts import Tokenizer, Tokens
from koine.types import ActsND, ImagesNHWC


@runtime_checkable
class Backbone(Protocol):
    """Runs one batch; a torch module or an ONNX session behind it."""

    def __call__(self, batch: ImagesNHWC | Tokens) -> ActsND: ...


class TorchBackbone:
    """A module on a device; images or token ids and mask in, float32 activations out."""

    def __init__(self, module: nn.Module, device: str = "cpu") -> None:
        self.module = module.eval().requires_grad_(False).to(device)
        self._device = device

    def __call__(self, batch: ImagesNHWC | Tokens) -> ActsND:
        arrays = (batch.ids_NT, batch.mask_NT) if isinstance(batch, Tokens) else (batch,)
        with torch.inference_mode():
            acts_ND = self.module(*(torch.from_numpy(array).to(self._device) for array in arrays))
        return acts_ND.float().cpu().numpy()


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoder:
    """One frozen encoder with its preprocessing; what a stream is made with."""

    identity: EncoderIdentity
    d_in: int
    """Width D of the activations."""
    preprocess: Preprocess
    backbone: Backbone
    tokenizer_file: Path | None = None
    """`tokenizer.json`; for texts, `preprocess.tokenizer` is its name in its folder."""
    onnx_file: Path | None = None
    """For ONNX encoders: a graph with the artifact's inputs and output, ready to be copied."""

    def __post_init__(self) -> None:
        assert (self.tokenizer_file is None) == isinstance(self.preprocess, ImagePreprocess)

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """Only of text encoders."""
        assert isinstance(self.preprocess, TextPreprocess)
        assert self.tokenizer_file is not None
        return Tokenizer(self.preprocess, self.tokenizer_file.parent)

    @property
    def modality(self) -> str:
        """`image` or `text`."""
        return self.preprocess.kind

    @property
    def module(self) -> nn.Module | None:
        """What export traces: uint8 `images_NHWC`, or int64 `ids_NT` and `mask_NT`, to `acts_ND`.

        Normalisation and pooling are inside. None for ONNX encoders, which have `onnx_file`.
        """
        return self.backbone.module if isinstance(self.backbone, TorchBackbone) else None

    def stream(self, name: str) -> StreamSpec:
        """The spec of a stream called `name` that this encoder feeds."""
        return StreamSpec(
            name=name,
            modality=self.preprocess.kind,
            d_in=self.d_in,
            encoder=self.identity,
            preprocess=self.preprocess,
        )

    def prepare(self, items: Sequence[Image.Image] | Sequence[str]) -> ImagesNHWC | Tokens:
        """A batch of upright RGB images or of texts, as `activations` reads it."""
        if isinstance(self.preprocess, TextPreprocess):
            return self.tokenizer(cast("Sequence[str]", items))
        images = cast("Sequence[Image.Image]", items)
        return np.stack([preprocess_image(image, self.preprocess) for image in images])

    def activations(self, batch: ImagesNHWC | Tokens) -> ActsND:
        """Pooled outputs of the frozen encoder for a prepared batch."""
        return self.backbone(batch)
