"""Teaches a student on a store's training items; resumes, and equals itself by seed.

Every draw is a function of seed and step, and the state is saved whole, so that a killed run ends
where an unbroken one does. Knows the student as a module and the teacher by its activations.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from koine.texts import Tokens
from koine.types import ActsND, ImagesNHWC
from training.checkpoint import CHECKPOINT, load_tensors, save_tensors
from training.distillation.loss import student_loss
from training.distillation.student import Size
from training.model import AlignedDictionary

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class TeachConfig:
    """How a student is taught."""

    student: Size = "small"
    """Its widths: `SHAPES`."""
    steps: int = 1500
    """Optimizer steps."""
    batch_size: int = 32
    """Items a step."""
    lr: float = 2e-3
    """AdamW's peak learning rate; it falls to 0 along a cosine."""
    weight_decay: float = 0.02
    """AdamW's."""
    support_weight: float = 0.5
    """Of choosing the teacher's concepts, beside predicting its activations."""
    shift: float = 0.06
    """Images move by up to this share of a side, drawn anew each time."""
    flip: bool = False
    """Mirror every other image: for data whose concepts know no left and right."""
    items: int = 20_000
    """Training items at most; they are held in memory."""
    checkpoint_every: int = 100
    """Steps between resume states."""
    seed: int = 0
    """Of weights, order, shifts and mirrors."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "items", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be above 0, got {getattr(self, name)}")
        if not self.lr > 0 or self.support_weight < 0 or not 0 <= self.shift < 0.5:
            raise ValueError("`lr` must be above 0, `support_weight` at least 0, `shift` below .5")


def teach(
    student: nn.Module,
    model: AlignedDictionary,
    name: str,
    inputs: ImagesNHWC | Tokens,
    acts_ND: ActsND,
    config: TeachConfig,
    run: Path,
) -> None:
    """Fits `student` to the teacher's `acts_ND` for `inputs`; goes on from a state in `run`."""
    optimizer = torch.optim.AdamW(
        student.parameters(), lr=config.lr, weight_decay=config.weight_decay
    )
    wanted_MD = torch.from_numpy(acts_ND)
    model.requires_grad_(False)
    step = _resume(run, student, optimizer)
    student.train()
    while step < config.steps:
        rng = np.random.default_rng((config.seed, step))
        rows_N = rng.integers(0, len(acts_ND), config.batch_size)
        for group in optimizer.param_groups:
            group["lr"] = config.lr * _rate(step, config.steps)
        batch = _augmented(inputs, rows_N, config, rng)
        loss = student_loss(model, name, student(*batch), wanted_MD[rows_N], config.support_weight)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % config.checkpoint_every == 0 or step == config.steps:
            log.info("step %d of %d: loss %.4f", step, config.steps, loss.item())
            _save(run, student, optimizer, step)
    student.eval()


def _rate(step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / max(1, steps // 20))
    return warm * (1 + math.cos(math.pi * step / steps)) / 2


def _augmented(
    inputs: ImagesNHWC | Tokens, rows_N: np.ndarray, config: TeachConfig, rng: np.random.Generator
) -> tuple[Tensor, ...]:
    if isinstance(inputs, Tokens):
        return torch.from_numpy(inputs.ids_NT[rows_N]), torch.from_numpy(inputs.mask_NT[rows_N])
    images = [_moved(inputs[row], config, rng) for row in rows_N]
    return (torch.from_numpy(np.stack(images)),)


def _moved(image_HWC: np.ndarray, config: TeachConfig, rng: np.random.Generator) -> np.ndarray:
    """The image shifted, its edge repeated where nothing is left, and perhaps mirrored."""
    side = image_HWC.shape[0]
    most = int(side * config.shift)
    down, right = rng.integers(-most, most + 1, 2)
    places = np.arange(side)
    moved = image_HWC[np.clip(places + down, 0, side - 1)][:, np.clip(places + right, 0, side - 1)]
    return moved[:, ::-1] if config.flip and rng.random() < 0.5 else moved


def _save(run: Path, student: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    tensors = {f"student.{name}": value for name, value in student.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{number}.{key}": value for key, value in state.items()}
    save_tensors(run / CHECKPOINT, tensors, {"step": step})


def _resume(run: Path, student: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    if not (run / CHECKPOINT).is_file():
        return 0
    tensors, facts = load_tensors(run / CHECKPOINT)
    prefix = "student."
    student.load_state_dict(
        {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    )
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("adam."):
            _, number, key = name.split(".")
            states.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": states})
    return int(facts["step"])
