import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from koine.artifact import Artifact
from koine.errors import ArtifactError, UnknownConceptError
from koine.localisation import (
    MAX_SIDE,
    Localisers,
    check_concept,
    colours,
    normalised,
    overlay,
    shown_size,
    spread,
)
from koine.manifest import Localiser
from koine.sessions import CPU
from koine.streams import ImagePreprocess


def spec(resize: str, resize_size: int = 64, crop_size: int = 64) -> ImagePreprocess:
    return ImagePreprocess.model_validate(
        {
            "resize": resize,
            "resize_size": resize_size,
            "crop_size": crop_size,
            "mean": (0.5,) * 3,
            "std": (0.5,) * 3,
        }
    )


def hot_corner(side: int = 8) -> np.ndarray:
    grid_HW = np.zeros((side, side), np.float32)
    grid_HW[0, -1] = 1
    return grid_HW


def test_heat_lies_over_the_crop_and_is_nan_outside() -> None:
    heat_HW = spread(hot_corner(), (200, 100), spec("shortest"))
    assert heat_HW.shape == (100, 200)
    inside = np.isfinite(heat_HW)
    assert inside.all(axis=0).sum() == 100
    assert inside[:, 50:150].all()
    row, column = np.unravel_index(np.nanargmax(heat_HW), heat_HW.shape)
    assert row < 13
    assert 137 <= column < 150


def test_a_margin_cut_on_every_side_is_nan() -> None:
    heat_HW = spread(hot_corner(), (100, 100), spec("shortest", 80, 64))
    assert np.isfinite(heat_HW[10:90, 10:90]).all()
    assert np.isfinite(heat_HW).sum() == 80 * 80


def test_a_squashed_image_is_covered() -> None:
    assert np.isfinite(spread(hot_corner(), (30, 90), spec("squash"))).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (MAX_SIDE * 4, MAX_SIDE * 2)])
def test_odd_sizes_are_bounded(size: tuple[int, int]) -> None:
    heat_HW = spread(hot_corner(), size, spec("shortest"))
    assert heat_HW.shape == shown_size(size)[::-1]
    assert max(heat_HW.shape) <= MAX_SIDE
    assert np.isfinite(heat_HW).any()


def test_flat_heat_is_no_heat() -> None:
    assert not normalised(np.full((3, 3), 7, np.float32)).any()


def test_lightness_rises_evenly() -> None:
    ramp_HWC = colours(np.linspace(0, 1, 64, dtype=np.float32)[None])
    light_W = ramp_HWC[0] @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(light_W) > 0).all()


def test_the_overlay_has_the_size_of_the_heat_and_colours_only_the_crop() -> None:
    heat_HW = spread(hot_corner(), (200, 100), spec("shortest"))
    painted = np.asarray(overlay(Image.new("RGB", (200, 100), (90, 90, 90)), heat_HW))
    assert painted.shape == (100, 200, 3)
    assert (np.ptp(painted[:, :40].astype(int), axis=2) == 0).all()
    assert (np.ptp(painted[:, 60:140].astype(int), axis=2) > 0).all()


def test_a_graph_that_was_changed_since_is_not_loaded(
    localising_artifact: Artifact, tmp_path: Path
) -> None:
    folder = tmp_path / "artifact"
    shutil.copytree(localising_artifact.path, folder)
    localisers = Localisers(Artifact.open(folder), [CPU])
    images = np.zeros((1, 32, 32, 3), np.uint8)
    with (folder / "localisers" / "tiny_a.onnx").open("r+b") as file:
        file.write(b"another")
    with pytest.raises(ArtifactError, match="was changed"):
        localisers.patches("tiny_a", images)


@pytest.mark.parametrize(("side", "moves", "stride"), [(8, 3, 8), (8, 2, 0), (8, 8, 4)])
def test_moves_that_fit_no_map_are_refused(side: int, moves: int, stride: int) -> None:
    with pytest.raises(ValueError, match="moves fit no map"):
        Localiser(graph="a.onnx", side=side, moves=moves, stride=stride)


@pytest.mark.parametrize("concept", [-1, 64])
def test_unknown_concepts_are_refused(concept: int) -> None:
    with pytest.raises(UnknownConceptError, match="from 0 to 63"):
        check_concept(concept, 64)
