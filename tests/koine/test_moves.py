import numpy as np
import pytest

from koine.moves import interleaved, moved


def averaged(images_NHWC: np.ndarray, stride: int) -> np.ndarray:
    """Stands for a network: the mean of each patch of `stride` pixels."""
    n, height, width, channels = images_NHWC.shape
    blocks = images_NHWC.reshape(n, height // stride, stride, width // stride, stride, channels)
    return blocks.mean((2, 4)).reshape(n, -1, channels).astype(np.float32)


@pytest.mark.parametrize("moves", [1, 2, 4])
def test_each_finer_patch_is_what_lies_around_its_middle(moves: int) -> None:
    stride = 8
    across_W = np.arange(32, dtype=np.uint8)
    ramp_HWC = np.stack(np.meshgrid(across_W, across_W * 3, indexing="xy"), -1)
    ramp_HWC = np.concatenate([ramp_HWC, ramp_HWC[..., :1]], -1)
    images_NHWC = np.stack([ramp_HWC, ramp_HWC[::-1]])
    copies_MHWC = moved(images_NHWC, moves, stride)
    assert copies_MHWC.shape == (2 * moves**2, 32, 32, 3)
    found_NPD = interleaved(averaged(copies_MHWC, stride), moves)
    side = 4 * moves
    grid = found_NPD.reshape(2, side, side, 3)
    middles = (np.arange(side) + 0.5) * stride / moves - 0.5
    inner = slice(moves, -moves)  # at the edges what is repeated counts too
    np.testing.assert_allclose(grid[0, 0, inner, 0], middles[inner], atol=0.51)  # whole pixels
    np.testing.assert_allclose(grid[0, inner, 0, 1], 3 * middles[inner], atol=1.51)
    np.testing.assert_allclose(grid[1, inner, 0, 1], grid[0, inner, 0, 1][::-1], atol=3.01)


def test_no_move_copies_nothing() -> None:
    images_NHWC = np.zeros((2, 4, 4, 3), np.uint8)
    assert moved(images_NHWC, 1, 2) is images_NHWC
