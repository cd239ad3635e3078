"""Students: small, taught what counts, and the same again by seed and after a kill."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from koine.streams import ImagePreprocess, StreamSpec
from tests.tiny import identity
from training.checkpoint import CHECKPOINT
from training.configs import SelectorConfig
from training.distillation.loss import scores, student_loss
from training.distillation.student import SHAPES, Size, TextStudent, parameters, student_for
from training.distillation.teach import TeachConfig, teach
from training.model import AlignedDictionary, ModelConfig

CONFIG = TeachConfig(student="tiny", steps=4, batch_size=4, checkpoint_every=2)
SPEC = StreamSpec(
    name="a",
    modality="image",
    d_in=24,
    encoder=identity("a"),
    preprocess=ImagePreprocess(
        resize_size=32, crop_size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
    ),
)


def dictionary(selector: bool = True) -> AlignedDictionary:
    torch.manual_seed(0)
    shared = SelectorConfig(components=8, width=6) if selector else None
    return AlignedDictionary(ModelConfig(num_concepts=32, k=4, selector=shared), {"a": 24})


def images(count: int = 12) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def taught(run: Path, config: TeachConfig = CONFIG, student: nn.Module | None = None) -> nn.Module:
    torch.manual_seed(config.seed)
    student = student or student_for(SPEC, config.student)
    acts_ND = np.random.default_rng(1).normal(size=(12, 24)).astype(np.float32)
    teach(student, dictionary(), "a", images(), acts_ND, config, run)
    return student


@pytest.mark.parametrize("selector", [True, False])
def test_scores_are_the_models(selector: bool) -> None:
    model, z_ND = dictionary(selector), torch.randn(5, 24)
    torch.testing.assert_close(scores(model, "a", z_ND), model.scores("a", z_ND))


def test_the_teacher_itself_errs_least() -> None:
    model, wanted_ND = dictionary(), torch.randn(8, 24)
    itself = student_loss(model, "a", wanted_ND, wanted_ND, 0.5)
    other = student_loss(model, "a", wanted_ND.roll(1, 0), wanted_ND, 0.5)
    assert itself < other / 2
    assert student_loss(model, "a", wanted_ND, wanted_ND, 0.0) == 0


def test_a_killed_student_ends_where_an_unbroken_one_does(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    unbroken = taught(tmp_path / "one")

    class Killed(Exception):
        pass

    torch.manual_seed(0)
    broken, calls = student_for(SPEC, "tiny"), []

    def stop(*_: object) -> None:
        calls.append(1)
        if len(calls) == 4:
            raise Killed

    broken.register_forward_pre_hook(stop)
    with pytest.raises(Killed):
        taught(tmp_path / "two", student=broken)
    assert (tmp_path / "two" / CHECKPOINT).is_file()
    resumed = taught(tmp_path / "two")
    for (name, a), b in zip(
        unbroken.state_dict().items(), resumed.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name


def test_another_seed_gives_another_student(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = taught(tmp_path / "one")
    two = taught(tmp_path / "two", dataclasses.replace(CONFIG, seed=1, flip=True))
    assert any(
        not torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True)
    )


@pytest.mark.parametrize("size", SHAPES)
def test_students_are_small_and_take_any_batch(size: Size) -> None:
    student = student_for(SPEC, size).eval()
    batch = torch.from_numpy(images(3))
    with torch.no_grad():
        acts_ND = student(batch)
        torch.testing.assert_close(student(batch[1:2]), acts_ND[1:2], rtol=1e-4, atol=1e-5)
    assert acts_ND.shape == (3, 24)
    assert parameters(student) < 350_000


def test_padding_changes_no_texts_activations() -> None:
    torch.manual_seed(0)
    student = TextStudent(50, 24, SHAPES["tiny"]).eval()
    ids_NT = torch.randint(1, 50, (2, 5))
    mask_NT = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    with torch.no_grad():
        together_ND = student(ids_NT, mask_NT)
        alone_ND = student(ids_NT[:1, :3], mask_NT[:1, :3])
    torch.testing.assert_close(together_ND[:1], alone_ND)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"lr": 0.0}, {"shift": 0.5}])
def test_nonsense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TeachConfig(**wrong)
