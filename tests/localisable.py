"""The tiny artifact with localisers for its image streams, labels, and its nonsense measured."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from koine.artifact import Artifact
from tests.service.labelled import labelled
from tests.tiny import Pixels, tiny_draft
from training.export.artifact import LocaliserDraft, write_artifact
from training.export.backbone import export_module
from training.export.nonsense import write_nonsense_values

SIDES = {"tiny_a": (4, 1), "tiny_b": (4, 2)}
"""Patches along a side, and moves."""


class Patches(nn.Module):
    """`Pixels` before its mean, which is linear in them."""

    def __init__(self, whole: Pixels) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, images_NHWC: torch.Tensor) -> torch.Tensor:
        pixels = (images_NHWC.float() / 255 - self.whole.mean) / self.whole.std
        patches = self.whole.patches(pixels.permute(0, 3, 1, 2)).flatten(2)
        return self.whole.project(torch.tanh(patches).transpose(1, 2))


def write_localisable(folder: Path) -> Artifact:
    """In `folder`, whose other files go with it."""
    draft = tiny_draft(folder)
    torch.manual_seed(0)  # as there: the localiser splits the same weights
    wholes = {
        "tiny_a": Pixels(draft.specs["tiny_a"], 8),
        "tiny_b": Pixels(draft.specs["tiny_b"], 12),
    }

    def write(path: Path, name: str) -> None:
        export_module(Patches(wholes[name]), draft.specs[name], path, output="patches")

    localisers = {name: LocaliserDraft(partial(write, name=name), *SIDES[name]) for name in wholes}
    plain = folder / "plain"
    plain.mkdir()
    write_artifact(plain, replace(draft, localisers=localisers))
    artifact = write_nonsense_values(plain, Artifact.open(plain))
    return labelled(artifact, folder / "artifact")
