"""What scenes stand on, as float pixels; knows nothing of objects."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from training.demo.scenes import SIDE

Canvas = Float[np.ndarray, "H W 3"]
Rng = np.random.Generator
DOWN_H11 = np.linspace(0, 1, SIDE, dtype=np.float32)[:, None, None]
ACROSS_1W1 = DOWN_H11.transpose(1, 0, 2)


def _fade(rng: Rng, top: tuple[int, ...], bottom: tuple[int, ...], jitter: float = 10.0) -> Canvas:
    start = np.array(top, np.float32) + rng.uniform(-jitter, jitter, 3).astype(np.float32)
    end = np.array(bottom, np.float32) + rng.uniform(-jitter, jitter, 3).astype(np.float32)
    return np.repeat(start + DOWN_H11 * (end - start), SIDE, axis=1)


def _grain(rng: Rng, rows: int, columns: int) -> Float[np.ndarray, "H W 1"]:
    """Noise of unit variance in cells of the given size."""
    shape = (math.ceil(SIDE / rows), math.ceil(SIDE / columns))
    cells = np.repeat(np.repeat(rng.standard_normal(shape, np.float32), rows, 0), columns, 1)
    return cells[:SIDE, :SIDE, None]


def _specks(rng: Rng, canvas: Canvas, count: int, colour: tuple[int, ...]) -> Canvas:
    canvas[rng.integers(0, SIDE, count), rng.integers(0, SIDE, count)] = colour
    return canvas


def _plain(rng: Rng) -> Canvas:
    return np.tile(np.float32(rng.uniform(185, 215)), (SIDE, SIDE, 3))


def _grass(rng: Rng) -> Canvas:
    return _fade(rng, (120, 190, 84), (84, 160, 60)) + _grain(rng, 4, 1) * 13


def _sky(rng: Rng) -> Canvas:
    canvas = _fade(rng, (110, 176, 242), (196, 226, 250))
    for _ in range(rng.integers(1, 4)):
        x, y = rng.uniform(0, 1), rng.uniform(0, 0.6)
        far = ((ACROSS_1W1 - x) / 0.2) ** 2 + ((DOWN_H11 - y) / 0.07) ** 2
        canvas += np.exp(-far) * (250 - canvas) * 0.85
    return canvas


def _sand(rng: Rng) -> Canvas:
    ripples = np.sin((DOWN_H11 * 9 + np.sin(ACROSS_1W1 * 7 + rng.uniform(0, 6)) * 0.4) * 6.3)
    return _fade(rng, (234, 208, 152), (218, 188, 128)) + ripples * 7 + _grain(rng, 1, 1) * 6


def _night(rng: Rng) -> Canvas:
    return _specks(rng, _fade(rng, (12, 14, 40), (38, 34, 84), 6.0), 40, (225, 225, 235))


def _sea(rng: Rng) -> Canvas:
    phase = rng.uniform(0, 6)
    waves = np.sin(DOWN_H11 * 44 + np.sin(ACROSS_1W1 * 12 + phase) * 1.6)
    return _fade(rng, (60, 132, 188), (22, 84, 142)) + np.maximum(waves, 0.3) * 26


def _gradient(rng: Rng) -> Canvas:
    start, end = rng.uniform(90, 235, (2, 3)).astype(np.float32)
    return start + (ACROSS_1W1 * 0.5 + DOWN_H11 * 0.5) * (end - start)


def _snow(rng: Rng) -> Canvas:
    canvas = _fade(rng, (222, 228, 238), (240, 243, 250), 5.0) + _grain(rng, 6, 6) * 3
    return _specks(rng, canvas, 60, (178, 192, 216))


def _sunset(rng: Rng) -> Canvas:
    canvas = _fade(rng, (104, 62, 128), (250, 158, 84), 12.0)
    y = rng.uniform(0.7, 0.95)
    canvas += (
        np.exp(-(((DOWN_H11 - y) / 0.09) ** 2))
        * (np.array((255, 214, 140), np.float32) - canvas)
        * 0.8
    )
    return canvas


def _brick(rng: Rng) -> Canvas:
    canvas = np.tile(np.array((168, 92, 74), np.float32), (SIDE, SIDE, 1)) + _grain(rng, 8, 16) * 9
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    shift = int(rng.integers(16))
    joints = (rows % 8 == 0) | ((columns + shift + rows // 8 % 2 * 8) % 16 == 0)
    canvas[joints] = (206, 192, 180)
    return canvas


BACKGROUNDS: dict[str, Callable[[Rng], Canvas]] = {
    "plain": _plain,
    "grass": _grass,
    "sky": _sky,
    "sand": _sand,
    "night": _night,
    "sea": _sea,
    "gradient": _gradient,
    "snow": _snow,
    "sunset": _sunset,
    "brick": _brick,
}
"""Background → its pixels, float32, about 0 to 255."""
