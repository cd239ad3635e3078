"""A tiny artifact with random weights: two image streams, one text stream, one without backbone."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn

from koine.artifact import Artifact, sha256_file
from koine.streams import EncoderIdentity, ImagePreprocess, StreamSpec, TextPreprocess
from training.export.artifact import Draft, LocaliserDraft, ReferenceBatch, staged, write_artifact
from training.export.backbone import export_module
from training.export.head import HeadWeights

NUM_CONCEPTS, K = 64, 8
WORDS = ("[PAD]", "[UNK]", "a", "dog", "cat", "on", "grass", "red", "square", "circle", "photo")


class Pixels(nn.Module):
    """A patch embedding and a projection, reading uint8 NHWC."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, spec: StreamSpec, patch: int) -> None:
        super().__init__()
        assert isinstance(spec.preprocess, ImagePreprocess)
        self.register_buffer("mean", torch.tensor(spec.preprocess.mean))
        self.register_buffer("std", torch.tensor(spec.preprocess.std))
        self.patches = nn.Conv2d(3, 16, patch, patch)
        self.project = nn.Linear(16, spec.d_in)

    def forward(self, images_NHWC: torch.Tensor) -> torch.Tensor:
        pixels = (images_NHWC.float() / 255 - self.mean) / self.std
        patches = self.patches(pixels.permute(0, 3, 1, 2)).flatten(2)
        return self.project(torch.tanh(patches).mean(2))


class Words(nn.Module):
    """Mean of word embeddings, then a projection."""

    def __init__(self, d_in: int) -> None:
        super().__init__()
        self.words = nn.Embedding(len(WORDS), 16)
        self.project = nn.Linear(16, d_in)

    def forward(self, ids_NT: torch.Tensor, mask_NT: torch.Tensor) -> torch.Tensor:
        mask_NT1 = mask_NT.unsqueeze(-1).float()
        mean = (self.words(ids_NT) * mask_NT1).sum(1) / mask_NT1.sum(1).clamp(min=1)
        return self.project(mean)


def random_weights(d_in: int, seed: int) -> HeadWeights:
    """Weights as of a trained stream: unit decoder rows, small biases."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (rng.normal(size=shape) * scale).astype(np.float32)

    dictionary_CD = normal(NUM_CONCEPTS, d_in)
    dictionary_CD /= np.linalg.norm(dictionary_CD, axis=1, keepdims=True)
    return HeadWeights(
        encoder_CD=dictionary_CD * np.float32(0.5),
        latent_bias_C=normal(NUM_CONCEPTS, scale=0.05),
        pre_bias_D=normal(d_in, scale=0.05),
        dictionary_CD=dictionary_CD,
        mean_D=normal(d_in, scale=0.1),
        shift_D=normal(d_in, scale=0.1),
        scale=np.array(3.0, np.float32),
    )


def identity(name: str) -> EncoderIdentity:
    """An encoder that nobody else has."""
    revision = f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"
    return EncoderIdentity(kind="timm", name=name, revision=revision, pooling="avg")


def image_spec(name: str, d_in: int, side: int) -> StreamSpec:
    """A stream of images."""
    preprocess = ImagePreprocess(
        resize_size=side, crop_size=side, mean=(0.5, 0.45, 0.4), std=(0.25, 0.25, 0.3)
    )
    return StreamSpec(
        name=name, modality="image", d_in=d_in, encoder=identity(name), preprocess=preprocess
    )


def write_tokenizer(path: Path) -> Path:
    """A tokenizer of a dozen words."""
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))
    return path


def tiny_draft(folder: Path) -> Draft:
    """What the tiny artifact is written from; `folder` takes its tokenizer."""
    torch.manual_seed(0)
    tokenizer = write_tokenizer(folder / "tiny_text.json")
    text = TextPreprocess(
        tokenizer=tokenizer.name,
        tokenizer_sha256=sha256_file(tokenizer),
        context_length=12,
        fixed_length=False,
    )
    specs = {
        "tiny_a": image_spec("tiny_a", 24, 32),
        "tiny_b": image_spec("tiny_b", 16, 24),
        "tiny_text": StreamSpec(
            name="tiny_text", modality="text", d_in=20, encoder=identity("t"), preprocess=text
        ),
        "imported": StreamSpec(name="imported", modality="vector", d_in=10),
    }
    modules = {
        "tiny_a": Pixels(specs["tiny_a"], 8),
        "tiny_b": Pixels(specs["tiny_b"], 12),
        "tiny_text": Words(20),
    }
    rng = np.random.default_rng(7)
    acts = {n: rng.normal(size=(40, s.d_in)).astype(np.float32) for n, s in specs.items()}
    return Draft(
        name="tiny",
        version="0.1",
        k=K,
        method="koine",
        shared=True,
        specs=specs,
        weights={name: random_weights(s.d_in, i) for i, (name, s) in enumerate(specs.items())},
        backbones={
            name: lambda path, m=module, s=specs[name]: export_module(m, s, path)
            for name, module in modules.items()
        },
        tokenizers={"tiny_text": tokenizer},
        reference=[ReferenceBatch(acts, np.ones((40, len(specs)), bool))],
        metrics={"joint.active_jaccard.mean": 0.75, "independent.active_jaccard.mean": 0.25},
    )


class Patches(nn.Module):
    """`Pixels` before its mean, whose projection splits over patches."""

    def __init__(self, pixels: Pixels) -> None:
        super().__init__()
        self.pixels = pixels

    def forward(self, images_NHWC: torch.Tensor) -> torch.Tensor:
        pixels = (images_NHWC.float() / 255 - self.pixels.mean) / self.pixels.std
        patches = self.pixels.patches(pixels.permute(0, 3, 1, 2)).flatten(2)
        return self.pixels.project(torch.tanh(patches).transpose(1, 2))


def write_localising(folder: Path) -> Artifact:
    """The same with a localiser of `tiny_a`, its images moved twice along each side."""
    draft = tiny_draft(folder)
    torch.manual_seed(0)
    spec = draft.specs["tiny_a"]
    module = Patches(Pixels(spec, 8))  # of the same seed as the backbone

    def write(path: Path) -> None:
        export_module(module, spec, path, output="patches")

    localiser = LocaliserDraft(write, side=8, moves=2, stride=8)
    with staged(folder / "artifact") as stage:
        write_artifact(stage, replace(draft, localisers={"tiny_a": localiser}))
    return Artifact.open(folder / "artifact")


def write_tiny(folder: Path) -> Artifact:
    """The tiny artifact at `folder/artifact`."""
    with staged(folder / "artifact") as stage:
        write_artifact(stage, tiny_draft(folder))
    return Artifact.open(folder / "artifact")
