"""A whole corpus in memory, for training the demo's encoders; writes nothing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from training.demo.corpus import make_item
from training.demo.scenes import SIDE
from training.demo.vocabulary import LABELS
from training.progress import progress


class Shots(NamedTuple):
    """Images, captions and labels of one corpus."""

    images_NHWC: Tensor
    """uint8."""
    captions: list[list[str]]
    labels_NL: Tensor
    """bool, columns as `vocabulary.LABELS`."""


def take_shots(num_images: int, seed: int) -> Shots:
    """The first items of the corpus of a seed."""
    images_NHWC = np.zeros((num_images, SIDE, SIDE, 3), np.uint8)
    labels_NL = np.zeros((num_images, len(LABELS)), bool)
    captions: list[list[str]] = []
    with progress(num_images, "painting scenes") as bar:
        for index in range(num_images):
            item = make_item(seed, index)
            images_NHWC[index] = item.painting.image_HWC
            labels_NL[index] = [label in item.labels for label in LABELS]
            captions.append(item.captions)
            bar.advance()
    return Shots(torch.from_numpy(images_NHWC), captions, torch.from_numpy(labels_NL))
