"""Small encoders that predict a teacher's activations; knows no dictionary and no training.

Images: depthwise separable convolutions (MobileNet, arXiv 1704.04861) on pixels averaged down to
at most `SIDE`. Texts: word embeddings, depthwise convolutions over neighbours, masked mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from koine.streams import ImagePreprocess, StreamSpec, TextPreprocess
from training.encoders.pixels import NormalisedPixels

Size = Literal["small", "tiny"]
SIDE = 112
"""Pixels of a side that image students see at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Widths of a student."""

    channels: tuple[int, ...]
    """Of the image stages; each but the first halves the sides."""
    words: int
    """Width of word embeddings."""
    bottleneck: int
    """Width before the teacher's."""


SHAPES: dict[Size, Shape] = {
    "small": Shape(channels=(24, 48, 96, 192, 320), words=64, bottleneck=128),
    "tiny": Shape(channels=(16, 32, 64, 96, 160), words=24, bottleneck=64),
}


def student_for(spec: StreamSpec, size: Size, vocabulary: int | None = None) -> nn.Module:
    """An untrained student of a stream: what the stream's backbone reads, to `acts_ND`.

    `vocabulary`: number of token ids, for texts.
    """
    shape = SHAPES[size]
    if isinstance(spec.preprocess, ImagePreprocess):
        return ImageStudent(spec.preprocess, spec.d_in, shape)
    assert isinstance(spec.preprocess, TextPreprocess)
    assert vocabulary is not None
    return TextStudent(vocabulary, spec.d_in, shape)


class ImageStudent(nn.Module):
    """uint8 `images_NHWC` to float32 `acts_ND`."""

    def __init__(self, preprocess: ImagePreprocess, d_in: int, shape: Shape) -> None:
        super().__init__()
        self.pixels = NormalisedPixels(preprocess)
        self.shrink = nn.AvgPool2d(-(-preprocess.crop_size // SIDE))
        first, *more = shape.channels
        stages: list[nn.Module] = [_convolution(3, first, 3, stride=2)]
        for channels in more:
            stages += [_Separable(first, channels, stride=2), _Separable(channels, channels)]
            first = channels
        self.stages = nn.Sequential(*stages)
        self.head = _head(first, shape.bottleneck, d_in)

    def forward(self, images_NHWC: Tensor) -> Tensor:
        features = self.stages(self.shrink(self.pixels(images_NHWC)))
        return self.head(features.mean((2, 3)))


class TextStudent(nn.Module):
    """int64 `ids_NT` and `mask_NT` to float32 `acts_ND`."""

    def __init__(self, vocabulary: int, d_in: int, shape: Shape) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, shape.words)
        self.neighbours = nn.Conv1d(shape.words, shape.words, 3, padding=1, groups=shape.words)
        self.mix = nn.Linear(shape.words, 4 * shape.words)
        self.head = _head(4 * shape.words, shape.bottleneck, d_in)

    def forward(self, ids_NT: Tensor, mask_NT: Tensor) -> Tensor:
        mask_NT1 = mask_NT.unsqueeze(-1).float()
        words = self.words(ids_NT) * mask_NT1
        near = words + self.neighbours(words.transpose(1, 2)).transpose(1, 2)
        mixed = nn.functional.gelu(self.mix(near)) * mask_NT1
        return self.head(mixed.sum(1) / mask_NT1.sum(1).clamp(min=1))


class _Separable(nn.Module):
    """A depthwise and a pointwise convolution, with a residual where sizes allow."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = _convolution(channels, channels, 3, stride=stride, groups=channels)
        self.pointwise = _convolution(channels, out, 1)
        self._residual = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        y = self.pointwise(self.depthwise(x))
        return x + y if self._residual else y


def _convolution(channels: int, out: int, side: int, stride: int = 1, groups: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, out, side, stride, side // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU6(),
    )


def _head(width: int, bottleneck: int, d_in: int) -> nn.Module:
    """A product of two thin matrices: the teacher's width alone would outweigh the student."""
    return nn.Sequential(nn.Linear(width, bottleneck), nn.Linear(bottleneck, d_in))


def parameters(module: nn.Module) -> int:
    """How many numbers a module has learnt."""
    return sum(parameter.numel() for parameter in module.parameters())


def fill(module: nn.Module, tensors: dict[str, torch.Tensor]) -> nn.Module:
    """The module with these weights, ready to be run."""
    module.load_state_dict(tensors)
    return module.eval()
