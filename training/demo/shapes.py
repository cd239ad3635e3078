"""Outlines of the shapes as signed distances; knows nothing of colour or place.

Each function takes coordinates in units of the object's radius (`v` downwards) and returns
roughly the distance to the outline, negative inside.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Plane = Float[np.ndarray, "H W"]


def _disc(u: Plane, v: Plane, x: float, y: float, radius: float) -> Plane:
    return np.hypot(u - x, v - y) - radius


def _box(u: Plane, v: Plane, half_width: float, half_height: float) -> Plane:
    return np.maximum(np.abs(u) - half_width, np.abs(v) - half_height)


def _half_plane(u: Plane, v: Plane, start: tuple[float, float], end: tuple[float, float]) -> Plane:
    """Distance to the line from `start` to `end`, positive on its left as seen on the screen."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    return ((u - start[0]) * dy - (v - start[1]) * dx) / math.hypot(dx, dy)


def _regular(u: Plane, v: Plane, sides: int) -> Plane:
    """A regular polygon in the unit circle, one corner up."""
    step = 2 * math.pi / sides
    angle = np.arctan2(u, -v) % step - step / 2
    return np.hypot(u, v) * np.cos(angle) - math.cos(step / 2)


def _star(u: Plane, v: Plane) -> Plane:
    step = 2 * math.pi / 5
    angle = np.abs((np.arctan2(u, -v) + step / 2) % step - step / 2)
    reach = np.hypot(u, v)
    inner = (0.45 * math.cos(step / 2), 0.45 * math.sin(step / 2))
    return _half_plane(reach * np.cos(angle), reach * np.sin(angle), (1.0, 0.0), inner)


def _heart(u: Plane, v: Plane) -> Plane:
    across = np.abs(u)
    lobe = _disc(across, v, 0.46, -0.34, 0.5)
    tip = np.maximum(_half_plane(across, v, (0.86, -0.04), (0.0, 0.96)), -v - 0.34)
    return np.minimum(lobe, tip)


def _crescent(u: Plane, v: Plane) -> Plane:
    return np.maximum(np.hypot(u, v) - 1, 0.82 - np.hypot(u - 0.5, v))


def _arrow(u: Plane, v: Plane) -> Plane:
    across = np.abs(v)
    head = np.maximum(_half_plane(u, across, (1.0, 0.0), (0.0, 0.78)), -u)
    shaft = _box(u + 0.45, v, 0.55, 0.27)
    return np.minimum(head, shaft)


def _house(u: Plane, v: Plane) -> Plane:
    across = np.abs(u)
    roof = np.maximum(_half_plane(across, v, (0.0, -1.0), (0.98, -0.12)), v + 0.12)
    return np.minimum(roof, _box(u, v - 0.32, 0.66, 0.48))


def _tree(u: Plane, v: Plane) -> Plane:
    crown = np.minimum(_disc(np.abs(u), v, 0.36, -0.12, 0.44), _disc(u, v, 0.0, -0.5, 0.5))
    return np.minimum(crown, _box(u, v - 0.55, 0.15, 0.45))


def _fish(u: Plane, v: Plane) -> Plane:
    body = (np.hypot((u - 0.22) / 0.76, v / 0.5) - 1) * 0.5
    across = np.abs(v)
    tail = np.maximum(
        np.maximum(_half_plane(u, across, (-0.4, 0.0), (-1.0, 0.62)), -u - 1.0), u + 0.3
    )
    return np.minimum(body, tail)


def _flower(u: Plane, v: Plane) -> Plane:
    step = 2 * math.pi / 5
    angle = (np.arctan2(u, -v) + step / 2) % step - step / 2
    reach = np.hypot(u, v)
    petal = _disc(reach * np.cos(angle), reach * np.sin(angle), 0.6, 0.0, 0.37)
    return np.minimum(petal, reach - 0.42)


OUTLINES: dict[str, Callable[[Plane, Plane], Plane]] = {
    "circle": lambda u, v: np.hypot(u, v) - 0.94,
    "square": lambda u, v: _box(u, v, 0.8, 0.8),
    "triangle": lambda u, v: _regular(u, v - 0.15, 3),
    "star": _star,
    "heart": _heart,
    "ring": lambda u, v: np.abs(np.hypot(u, v) - 0.77) - 0.2,
    "tree": _tree,
    "cross": lambda u, v: np.minimum(_box(u, v, 0.95, 0.3), _box(u, v, 0.3, 0.95)),
    "house": _house,
    "fish": _fish,
    "crescent": _crescent,
    "flower": _flower,
    "diamond": lambda u, v: (np.abs(u) / 0.68 + np.abs(v) - 1) * 0.56,
    "arrow": _arrow,
    "hexagon": lambda u, v: _regular(u, v, 6),
    "oval": lambda u, v: (np.hypot(u, v / 0.58) - 1) * 0.58,
}
"""Shape → signed distance in units of the radius."""
