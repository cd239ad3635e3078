"""`distill`, then `export`: a student serves as any backbone and says whose it is."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from koine.encoder import ConceptEncoder
from koine.errors import ExportError, TrainingError
from tests.training.activations.tiny_recipe import tiny
from tests.training.sources.made import Made, write_captions_folder
from training.__main__ import main
from training.activations.store import ActivationStore
from training.distillation.distill import distill
from training.distillation.students import FOLDER
from training.distillation.teach import TeachConfig
from training.export.build import export
from training.export.precision import PrecisionConfig
from training.recipes import RECIPES
from training.trainer import fit

CONFIG = TeachConfig(student="tiny", steps=2, batch_size=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data, store and run of the tiny recipe."""
    folder = tmp_path_factory.mktemp("tiny")
    splits = ("train", "train", "train", "val", "test")
    items = [Made(f"img{i:03d}", (f"a dog number {i}",), (), splits[i % 5]) for i in range(40)]
    write_captions_folder(folder / "data", items)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, "tiny", tiny)
        code = main(
            ["extract", "--recipe", "tiny", "--data", str(folder / "data"), "--device", "cpu",
             "--out", str(folder / "store")]
        )  # fmt: skip
    assert code == 0
    fit(ActivationStore.open(folder / "store"), tiny().fit, folder / "run", recipe="tiny")
    return folder


@pytest.fixture(autouse=True)
def recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "tiny", tiny)


@pytest.fixture(scope="module")
def students(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a student of images, one, and of it one with a student of texts too, two."""
    out = tmp_path_factory.mktemp("students")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, "tiny", tiny)
        distill(folder / "run", "clip_image", out / "one", CONFIG, data=folder / "data")
        distill(out / "one", "clip_text", out / "two", CONFIG)
    return out


def test_the_same_command_again_changes_nothing(folder: Path, students: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (students / "one").rglob("*")}
    again = distill(folder / "run", "clip_image", students / "one", CONFIG, data=folder / "data")
    assert again.items == 24
    assert 0 <= again.metrics["support_jaccard"] <= 1
    assert {path: path.stat().st_mtime_ns for path in (students / "one").rglob("*")} == before


def test_students_of_images_and_texts_are_exported(students: Path, tmp_path: Path) -> None:
    artifact = export(students / "two", tmp_path / "artifact").artifact
    assert set(artifact.manifest.distilled) == {"clip_image", "clip_text"}
    spec = artifact.manifest.streams[1].spec
    assert spec.encoder is not None
    assert spec.encoder.name.endswith("-tiny")
    assert spec.encoder.revision != artifact.manifest.distilled["clip_image"].teacher.revision
    assert "## Students" in (artifact.path / "README.md").read_text()
    encoder = ConceptEncoder(artifact)
    acts_ND = encoder.activations("clip_image", np.zeros((2, 32, 32, 3), np.uint8))
    assert acts_ND.shape == (2, 24)
    assert encoder.activations("clip_text", encoder.tokenize("clip_text", ["a dog"])).shape[1] == 24


def test_backbones_are_exported_in_int8(folder: Path, tmp_path: Path) -> None:
    asked = PrecisionConfig(kind="int8", min_jaccard=0.2)
    artifact = export(
        folder / "run", tmp_path / "artifact", precision=asked, data=folder / "data"
    ).artifact
    precision = artifact.manifest.precision
    assert precision is not None
    for figures in precision.streams.values():
        assert "int8" in figures.method
        assert 0 < figures.bytes < figures.bytes_fp32
        assert figures.speed is not None
    ConceptEncoder(artifact).warm_up()


def test_pixels_are_asked_for(folder: Path, tmp_path: Path) -> None:
    asked = PrecisionConfig(kind="fp16")
    with pytest.raises(ExportError, match="reads images; give .* --data"):
        export(folder / "run", tmp_path / "artifact", precision=asked)
    write_captions_folder(tmp_path / "other", [Made("x", ("a dog",), (), "train")])
    with pytest.raises(ExportError, match="not what the store"):
        export(folder / "run", tmp_path / "artifact", precision=asked, data=tmp_path / "other")
    assert not (tmp_path / "artifact").exists()


def test_a_student_needs_a_stream_of_the_run(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no stream `ghost`; give --stream one of vit"):
        distill(folder / "run", "ghost", tmp_path / "out", CONFIG, data=folder / "data")


def test_a_damaged_student_is_named(students: Path, tmp_path: Path) -> None:
    shutil.copytree(students / "two", tmp_path / "out")
    path = tmp_path / "out" / FOLDER / "clip_text.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ExportError, match="holds no student of stream `clip_text`"):
        export(tmp_path / "out", tmp_path / "artifact")
