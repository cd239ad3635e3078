"""The front of every image backbone: uint8 pixels to normalised floats; knows no model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from koine.streams import ImagePreprocess


class NormalisedPixels(nn.Module):
    """uint8 `images_NHWC` to `(x / 255 - mean) / std` in NCHW, the operations of torchvision."""

    mean: Tensor
    std: Tensor

    def __init__(self, spec: ImagePreprocess) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images_NHWC: Tensor) -> Tensor:
        pixels_NCHW = images_NHWC.permute(0, 3, 1, 2).to(torch.float32) / 255
        return (pixels_NCHW - self.mean) / self.std


class ImageModule(nn.Module):
    """uint8 `images_NHWC` to float32 `acts_ND`: what extraction runs and export traces."""

    def __init__(self, spec: ImagePreprocess, tower: nn.Module) -> None:
        super().__init__()
        self.pixels = NormalisedPixels(spec)
        self.tower = tower

    def forward(self, images_NHWC: Tensor) -> Tensor:
        return self.tower(self.pixels(images_NHWC))


def width_of_images(module: ImageModule, spec: ImagePreprocess) -> int:
    """Width D of the activations, from one black image."""
    side = spec.crop_size
    with torch.inference_mode():
        return module(torch.zeros(1, side, side, 3, dtype=torch.uint8)).shape[-1]
