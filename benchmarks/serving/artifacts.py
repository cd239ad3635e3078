"""Artifacts with random weights, written by the project's own exporter; measures nothing.

They lie below runs/bench and are made once: `python -m benchmarks.serving.artifacts NAME PATH`,
in a process of its own, so that no measurement runs beside torch.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.serving.server import ROOT
from koine.streams import EncoderIdentity, ImagePreprocess, StreamSpec

if TYPE_CHECKING:  # torch and its kin are imported where an artifact is made, and nowhere else
    pass

FOLDER = ROOT / "runs" / "bench"
DEMO = ROOT / "runs" / "demo" / "artifact"
DEMO_VARIABLE = "KOINE_BENCH_ARTIFACT"
WIDE_CONCEPTS, WIDE_D, WIDE_K = 8192, 768, 64


class Skipped(RuntimeError):
    """Something that a benchmark needs is not there; says what to do."""


def built(name: str, folder: Path = FOLDER) -> Path:
    """The artifact of one of `MAKERS`, made where it is missing."""
    path = folder / name
    if not (path / "manifest.json").is_file():
        print(f"making the artifact {name}…", flush=True)
        command = [sys.executable, "-m", "benchmarks.serving.artifacts", name, str(path)]
        subprocess.run(command, check=True, cwd=ROOT)
    return path


def demo() -> Path:
    """What `make demo` exported, or what `KOINE_BENCH_ARTIFACT` names. Raises `Skipped`."""
    path = Path(os.environ.get(DEMO_VARIABLE) or DEMO).absolute()
    if not (path / "manifest.json").is_file():
        raise Skipped(f"no artifact at {path}: run `DEMO_EXIT=1 make demo`, or set {DEMO_VARIABLE}")
    return path


def _vit(path: Path) -> None:
    """CLIP ViT-B/32's image tower and a dictionary of 8,192 concepts."""
    from training.encoders.config import EncoderConfig
    from training.encoders.open_clip_towers import load_open_clip
    from training.export.backbone import export_module

    config = EncoderConfig(kind="open_clip", modality="image", name="ViT-B-32", weights="random:0")
    encoder = load_open_clip(config, None, "cpu")
    module = encoder.module
    assert module is not None
    spec = encoder.stream("clip_image")
    backbones = {spec.name: lambda file: export_module(module, spec, file)}
    _write(path, "vit-b-32", [spec], backbones, num_concepts=WIDE_CONCEPTS, k=WIDE_K)


def _wide(path: Path) -> None:
    """No backbone: 8,192 concepts of activations 768 wide, k = 64."""
    spec = StreamSpec(name="wide", modality="vector", d_in=WIDE_D)
    _write(path, "wide", [spec], {}, num_concepts=WIDE_CONCEPTS, k=WIDE_K)


def _small(path: Path, seed: int = 0) -> None:
    """A few convolutions and a stream of activations: requests are cheap, answers differ."""
    import torch
    from torch import nn

    from training.export.backbone import export_module

    torch.manual_seed(7)
    preprocess = ImagePreprocess(
        resize_size=32, crop_size=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)
    )
    revision = f"sha256:{hashlib.sha256(b'small').hexdigest()}"
    identity = EncoderIdentity(kind="timm", name="small", revision=revision, pooling="avg")
    image = StreamSpec(
        name="small_image", modality="image", d_in=32, encoder=identity, preprocess=preprocess
    )
    vector = StreamSpec(name="small_vector", modality="vector", d_in=32)

    class Tower(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.out = nn.Conv2d(3, 32, 8, 8), nn.Linear(32 * 16, 32)

        def forward(self, images_NHWC: torch.Tensor) -> torch.Tensor:
            pixels = (images_NHWC.float() / 255 - 0.5).permute(0, 3, 1, 2) * 4
            return self.out(torch.tanh(self.patches(pixels)).flatten(1))

    backbones = {image.name: lambda file: export_module(Tower(), image, file)}
    _write(path, "small", [image, vector], backbones, num_concepts=256, k=8, seed=seed)


def _write(path, name, specs, backbones, *, num_concepts, k, seed=0):
    """Random unit dictionaries around the given backbones."""
    from training.export.artifact import Draft, ReferenceBatch, staged, write_artifact

    rng = np.random.default_rng(seed)
    weights = {spec.name: _weights(rng, num_concepts, spec.d_in) for spec in specs}
    acts = {spec.name: rng.normal(size=(64, spec.d_in)).astype(np.float32) for spec in specs}
    draft = Draft(
        name=name, version=str(seed), k=k, method="koine", shared=True,
        specs={spec.name: spec for spec in specs}, weights=weights, backbones=backbones,
        tokenizers={}, metrics={},
        reference=[ReferenceBatch(acts, np.ones((64, len(specs)), bool))],
    )  # fmt: skip
    with staged(path) as stage:
        write_artifact(stage, draft)


def _weights(rng, num_concepts, d_in):
    from training.export.head import HeadWeights

    dictionary_CD = rng.normal(size=(num_concepts, d_in)).astype(np.float32)
    dictionary_CD /= np.linalg.norm(dictionary_CD, axis=1, keepdims=True)
    zeros_D = np.zeros(d_in, np.float32)
    return HeadWeights(
        encoder_CD=dictionary_CD,
        latent_bias_C=np.zeros(num_concepts, np.float32),
        pre_bias_D=zeros_D,
        dictionary_CD=dictionary_CD,
        mean_D=zeros_D,
        shift_D=zeros_D,
        scale=np.array(1.0, np.float32),
    )


MAKERS = {
    "vit": _vit,
    "wide": _wide,
    "small": _small,
    "small-next": lambda path: _small(path, seed=1),
}

if __name__ == "__main__":
    MAKERS[sys.argv[1]](Path(sys.argv[2]))
