"""Seeded scenes: which objects stand where on which background, and every label that is true.

Knows nothing of pixels or words.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from training.demo import vocabulary as words

SIDE = 64
"""Width and height of an image in pixels."""
MARGIN = 1.5
"""Pixels between an object's circle and the border, and between two objects apart."""


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One thing of a scene; `x` to the right, `y` downwards, in pixels."""

    shape: str
    colour: str
    texture: str
    size: str
    x: float
    y: float
    radius: float
    angle: float
    """Radians."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A background and its objects, the first drawn lowest."""

    background: str
    objects: tuple[SceneObject, ...]


def draw_scene(rng: np.random.Generator) -> Scene:
    """A scene drawn from `rng`: same state, same scene."""
    background = pick(rng, words.BACKGROUNDS, power=0.6)
    count = 1 + int(np.searchsorted((0.27, 0.62, 0.85), rng.random()))
    places = _places(rng, count)
    shapes = _repeated(rng, 0.12, [_shape(rng, background) for _ in places])
    if len(places) == 2 and _holds(places):
        shapes[0] = words.CONTAINERS[rng.integers(len(words.CONTAINERS))]
    colours = _colours(rng, background, shapes, apart=_touch(places))
    objects = (
        SceneObject(
            shape=shape,
            colour=colour,
            texture=pick(rng, words.TEXTURES, power=0.7),
            size=size,
            x=x,
            y=y,
            radius=radius,
            angle=_angle(rng, shape),
        )
        for shape, colour, (size, x, y, radius) in zip(shapes, colours, places, strict=True)
    )
    return Scene(background, tuple(objects))


def labels_of(scene: Scene) -> tuple[str, ...]:
    """Every label of `vocabulary.LABELS` that is true of the scene, in that order."""
    true = {scene.background, list(words.COUNTS)[len(scene.objects) - 1]}
    for thing in scene.objects:
        true.update((thing.shape, thing.colour, thing.texture, thing.size), positions(thing))
    for a, b in combinations(scene.objects, 2):
        true.update(relations(a, b))
    true.update(arrangements(scene.objects))
    return tuple(label for label in words.LABELS if label in true)


def positions(thing: SceneObject) -> set[str]:
    """Where in the picture an object's centre lies."""
    across, down = thing.x / SIDE, thing.y / SIDE
    checks = {
        "centre": abs(across - 0.5) < 0.12 and abs(down - 0.5) < 0.12,
        "left side": across < 0.28,
        "right side": across > 0.72,
        "top": down < 0.28,
        "bottom": down > 0.72,
    }
    return {name for name, holds in checks.items() if holds}


def relations(a: SceneObject, b: SceneObject) -> set[str]:
    """How two objects stand to each other; the same whichever comes first."""
    across, down = abs(a.x - b.x), abs(a.y - b.y)
    distance = math.hypot(across, down)
    gap = distance - a.radius - b.radius
    if distance + min(a.radius, b.radius) <= 0.8 * max(a.radius, b.radius):
        return {"inside"}
    if gap < 0:
        return {"overlapping"}
    checks = {
        "beside": down <= 0.35 * across,
        "above": across <= 0.35 * down,
        "near": gap < 5,
        "far apart": gap > 20,
    }
    return {name for name, holds in checks.items() if holds}


def arrangements(objects: Sequence[SceneObject]) -> set[str]:
    """What holds for all objects together."""
    if len(objects) < 2:
        return set()
    xs, ys = [thing.x for thing in objects], [thing.y for thing in objects]
    many = len(objects) > 2
    checks = {
        "in a row": many and max(ys) - min(ys) < 6,
        "in a column": many and max(xs) - min(xs) < 6,
        "same shape": len({thing.shape for thing in objects}) == 1,
        "same colour": len({thing.colour for thing in objects}) == 1,
    }
    return {name for name, holds in checks.items() if holds}


def pick(rng: np.random.Generator, names: Iterable[str], power: float) -> str:
    """One of `names`, the nth with a chance proportional to (n + 1) ** -power."""
    names = tuple(names)
    return _weighted(rng, names, [(rank + 2) ** -power for rank in range(len(names))])


Place = tuple[str, float, float, float]
"""Size, x, y, radius."""


def _places(rng: np.random.Generator, count: int) -> list[Place]:
    layout = rng.random()
    if count == 2 and layout < 0.2:
        return _nested(rng)
    if count == 2 and layout < 0.42:
        return _overlapped(rng)
    if count > 2 and layout < 0.3:
        return _line(rng, count)
    places: list[Place] = []
    tries = 0
    while len(places) < count:
        tries += 1
        size = _size(rng, places, count, tries)
        low, high = words.RADII[size]
        radius = rng.uniform(low, high)
        x, y = rng.uniform(radius + MARGIN, SIDE - radius - MARGIN, 2)
        if layout > 0.75 and len(places) == 1:  # straight beside or above the first
            x, y = (x, places[0][2]) if layout > 0.87 else (places[0][1], y)
            x, y = np.clip((x, y), radius + MARGIN, SIDE - radius - MARGIN)
        if all(math.hypot(x - p[1], y - p[2]) > radius + p[3] + MARGIN for p in places):
            places.append((size, float(x), float(y), float(radius)))
    return places


def _size(rng: np.random.Generator, places: list[Place], count: int, tries: int) -> str:
    if tries > 25 or (count > 2 and any(place[0] == "large" for place in places)):
        return "small"
    if count > 2 and places:
        return _weighted(rng, ("medium", "small"), (1.0, 1.0))
    return pick(rng, words.SIZES, power=0.5)


def _nested(rng: np.random.Generator) -> list[Place]:
    radius = rng.uniform(15, 17)
    x, y = rng.uniform(radius + MARGIN, SIDE - radius - MARGIN, 2)
    dx, dy = rng.uniform(-1, 1, 2)
    inner = rng.uniform(*words.RADII["small"])
    return [
        ("large", float(x), float(y), float(radius)),
        ("small", float(x + dx), float(y + dy), float(inner)),
    ]


def _overlapped(rng: np.random.Generator) -> list[Place]:
    sizes = sorted(
        (pick(rng, words.SIZES, power=0.3) for _ in range(2)),
        key=lambda size: -words.RADII[size][0],
    )
    radii = [float(rng.uniform(*words.RADII[size])) for size in sizes]
    far = min(max(radii) + 0.15 * min(radii), 0.85 * sum(radii))
    turn = rng.uniform(0, 2 * math.pi)
    offset = (far * math.cos(turn), far * math.sin(turn))
    low = [max(radii[0], radii[1] - d) + MARGIN for d in offset]
    high = [SIDE - max(radii[0], radii[1] + d) - MARGIN for d in offset]
    x, y = (float(rng.uniform(a, max(a, b))) for a, b in zip(low, high, strict=True))
    return [
        (sizes[0], x, y, radii[0]),
        (sizes[1], x + offset[0], y + offset[1], radii[1]),
    ]


def _line(rng: np.random.Generator, count: int) -> list[Place]:
    size = "small" if count == 4 else _weighted(rng, ("small", "medium"), (1.0, 2.0))
    reach = words.RADII[size][1] - (1.2 if size == "medium" else 0)
    cross = rng.uniform(reach + 3, SIDE - reach - 3)
    steps = np.linspace(reach + MARGIN, SIDE - reach - MARGIN, count)
    row = rng.random() < 0.5
    places: list[Place] = []
    for step in steps:
        radius = float(rng.uniform(words.RADII[size][0], reach))
        along, side = float(step), float(cross + rng.uniform(-1.5, 1.5))
        places.append((size, *((along, side) if row else (side, along)), radius))
    return places


def _touch(places: list[Place]) -> bool:
    (_, x, y, a), (_, u, v, b) = places[0], places[-1]
    return len(places) == 2 and math.hypot(x - u, y - v) < a + b


def _holds(places: list[Place]) -> bool:
    (_, x, y, a), (_, u, v, b) = places
    return math.hypot(x - u, y - v) + b <= 0.8 * a


def _shape(rng: np.random.Generator, background: str) -> str:
    favoured = words.FAVOURED.get(background, ())
    weights = [
        (rank + 2) ** -0.6 * (3.0 if shape in favoured else 1.0)
        for rank, shape in enumerate(words.SHAPES)
    ]
    return _weighted(rng, tuple(words.SHAPES), weights)


def _colours(
    rng: np.random.Generator, background: str, shapes: list[str], apart: bool
) -> list[str]:
    """One colour for each shape; `apart` keeps touching objects from sharing theirs."""
    drawn: list[str] = []
    for shape in shapes:
        hues = words.HUES.get(shape, ())
        barred = words.AVOIDED[background] + (tuple(drawn) if apart else ())
        weights = [
            0.0 if colour in barred else (rank + 2) ** -0.6 * (4.0 if colour in hues else 1.0)
            for rank, colour in enumerate(words.COLOURS)
        ]
        drawn.append(_weighted(rng, tuple(words.COLOURS), weights))
    return drawn if apart else _repeated(rng, 0.12, drawn)


def _angle(rng: np.random.Generator, shape: str) -> float:
    tilt = rng.uniform(-0.2, 0.2)
    quarter = rng.integers(4) if shape in ("arrow", "crescent") else 0
    return float(tilt + quarter * math.pi / 2)


def _repeated(rng: np.random.Generator, chance: float, drawn: list[str]) -> list[str]:
    return [drawn[0]] * len(drawn) if rng.random() < chance else drawn


def _weighted(rng: np.random.Generator, names: Sequence[str], weights: Sequence[float]) -> str:
    ends = np.cumsum(weights)
    return names[int(np.searchsorted(ends, rng.random() * ends[-1], side="right"))]
