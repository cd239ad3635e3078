import numpy as np
import pytest

from koine.shift_and_stitch import shifted, stitched


def pooled(images_NHWC: np.ndarray, stride: int) -> np.ndarray:
    """A network that averages each of its patches."""
    count, height, width, channels = images_NHWC.shape
    blocks = images_NHWC.reshape(count, height // stride, stride, width // stride, stride, channels)
    return blocks.mean((2, 4)).reshape(count, -1, channels).astype(np.float32)


@pytest.mark.parametrize("moves", [2, 4])
def test_each_finer_patch_is_the_networks_own_around_it(moves: int) -> None:
    stride, side = 8, 16
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    moved = shifted(images, moves, stride)
    assert moved.shape == (2 * moves**2, side, side, 3)
    fine_NGGC = stitched(pooled(moved, stride), moves)
    grid = side // stride * moves
    assert fine_NGGC.shape == (2, grid**2, 3)
    edge = np.pad(images, ((0, 0), (stride, stride), (stride, stride), (0, 0)), mode="edge")
    step = stride / moves
    for n in range(2):
        for row in range(grid):
            for column in range(grid):
                top, left = (stride + round((p + 0.5) * step - stride / 2) for p in (row, column))
                window = edge[n, top : top + stride, left : left + stride]
                found = fine_NGGC[n, row * grid + column]
                np.testing.assert_allclose(found, window.mean((0, 1)), rtol=1e-5)


def test_one_move_changes_nothing() -> None:
    images = np.zeros((3, 8, 8, 3), np.uint8)
    patches = np.zeros((3, 4, 5), np.float32)
    assert shifted(images, 1, 0) is images
    assert stitched(patches, 1) is patches
