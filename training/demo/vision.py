"""Trains the demo's timm vision model on unlabelled scenes by self-supervision (SimCLR).

Two random views of a scene must find each other among those of the batch (Chen et al., 2020).
Crops are mild and colours mostly kept, since place and colour are concepts of the corpus. Two
things keep background and colour from being all that is learnt: a view now and then loses its
colours, and half of each batch are scenes that an untrained model takes for alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import save_file
from timm.models.resnet import ResNet
from torch import Tensor, nn
from torch.nn import functional

from training.demo.clip import pixels, rate, update
from training.demo.quality import activations
from training.demo.shots import Shots
from training.demo.streams import VISION
from training.progress import progress

TEMPERATURE = 0.2
GROUPS_PER_BATCH = 2
VISION_WIDTH = VISION.kwargs["channels"][-1]


def make_model(seed: int) -> ResNet:
    """The architecture of the `vision` stream with fresh weights."""
    torch.manual_seed(seed)
    model = timm.create_model(VISION.name, pretrained=False, num_classes=0, **VISION.kwargs)
    assert isinstance(model, ResNet)
    return model


def train_vision(shots: Shots, *, steps: int, batch: int, seed: int) -> nn.Module:
    """The model after `steps` of SimCLR over `batch` images of two views each."""
    model = make_model(seed).train()
    head = nn.Sequential(
        nn.Linear(VISION_WIDTH, 512, bias=False),
        nn.BatchNorm1d(512),
        nn.ReLU(),
        nn.Linear(512, 128),
    )
    learner = nn.Sequential(model, head)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=1, weight_decay=0.02)
    batches = _alike(shots, model, batch, seed)
    with progress(steps, "training the vision model") as bar:
        for step in range(steps):
            rows_N = next(batches)
            images_NCHW = pixels(shots.images_NHWC[rows_N])
            views_NCHW = torch.cat([random_view(images_NCHW), random_view(images_NCHW)])
            with torch.autocast("cpu", torch.bfloat16):
                acts_ND = model(views_NCHW)
            loss = contrast(head(acts_ND.float()))
            update(learner, optimizer, loss, rate(step, steps, peak=2e-3))
            bar.advance(1, f"loss {loss.item():.3f}")
    return model.eval()


def _alike(shots: Shots, untrained: nn.Module, batch: int, seed: int) -> Iterator[Tensor]:
    """Half a batch of any rows, half of scenes with their neighbours in the untrained view."""
    untrained.eval()
    acts_ND = activations(lambda part: untrained(pixels(part)), shots.images_NHWC)
    untrained.train()
    acts_ND = functional.normalize((acts_ND - acts_ND.mean(0)) / (acts_ND.std(0) + 1e-6), dim=-1)
    rng = np.random.default_rng(seed)
    while True:
        anchors_G = torch.from_numpy(rng.integers(0, len(acts_ND), GROUPS_PER_BATCH))
        likeness_GN = acts_ND[anchors_G] @ acts_ND.T
        alike_M = likeness_GN.topk(batch // 2 // GROUPS_PER_BATCH).indices.flatten()
        any_M = torch.from_numpy(rng.integers(0, len(acts_ND), batch - batch // 2))
        yield torch.cat([alike_M, any_M]).unique()


def random_view(images_NCHW: Tensor) -> Tensor:
    """A crop of each image with jittered light, one in ten without colour, with noise."""
    count = len(images_NCHW)
    side_N = torch.empty(count).uniform_(0.65, 1.0)
    shift_N2 = torch.empty(count, 2).uniform_(-1, 1) * (1 - side_N)[:, None]
    theta_N23 = torch.zeros(count, 2, 3)
    theta_N23[:, 0, 0] = theta_N23[:, 1, 1] = side_N
    theta_N23[:, :, 2] = shift_N2
    grid_NHW2 = functional.affine_grid(theta_N23, list(images_NCHW.shape), align_corners=False)
    views_NCHW = functional.grid_sample(images_NCHW, grid_NHW2, align_corners=False)
    grey_N111 = (torch.rand(count) < 0.1).float()[:, None, None, None]
    views_NCHW = torch.lerp(views_NCHW, views_NCHW.mean(1, keepdim=True), grey_N111)
    contrast_N111 = torch.empty(count, 1, 1, 1).uniform_(0.75, 1.25)
    light_N111 = torch.empty(count, 1, 1, 1).uniform_(-0.2, 0.2)
    return views_NCHW * contrast_N111 + light_N111 + torch.randn_like(views_NCHW) * 0.04


def contrast(heads_ND: Tensor) -> Tensor:
    """NT-Xent: rows i and i + N/2 are views of one image, all others are not."""
    heads_ND = functional.normalize(heads_ND, dim=-1)
    logits_NN = heads_ND @ heads_ND.T / TEMPERATURE
    logits_NN = logits_NN - torch.diag(torch.full((len(heads_ND),), 1e9))
    half = len(heads_ND) // 2
    return functional.cross_entropy(logits_NN, torch.arange(2 * half).roll(half))


def save_vision(model: nn.Module, folder: Path) -> None:
    """Write the weights as `model.safetensors`; the architecture is `streams.VISION`."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
