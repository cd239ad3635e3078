"""Scenes as pixels and masks; knows nothing of labels or captions."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from training.demo.backgrounds import BACKGROUNDS
from training.demo.scenes import SIDE, Scene, SceneObject
from training.demo.shapes import OUTLINES
from training.demo.vocabulary import RGB

Plane = Float[np.ndarray, "H W"]
ROWS_HW, COLUMNS_HW = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)


class Painting(NamedTuple):
    """A painted scene."""

    image_HWC: UInt8[np.ndarray, "H W 3"]
    masks_OHW: Bool[np.ndarray, "O H W"]
    """For each object the pixels where it is what one sees: what covers it is left out."""


def paint(scene: Scene, rng: np.random.Generator) -> Painting:
    """The scene's pixels; `rng` draws grain, jitter of colours and texture."""
    canvas_HWC = BACKGROUNDS[scene.background](rng)
    masks_OHW = np.zeros((len(scene.objects), SIDE, SIDE), bool)
    for place, thing in enumerate(scene.objects):
        window = _window(thing)
        distance_HW, u_HW, v_HW = _outline(thing, window)
        cover_HW = np.clip(0.5 - distance_HW, 0, 1)
        fill_HWC = _fill(thing, distance_HW, u_HW, v_HW, rng)
        patch_HWC = canvas_HWC[window]
        patch_HWC += cover_HW[..., None] * (fill_HWC - patch_HWC)
        seen_HW = cover_HW > 0.5
        masks_OHW[(slice(None), *window)] &= ~seen_HW
        masks_OHW[(place, *window)] = seen_HW
    canvas_HWC += rng.standard_normal((SIDE, SIDE, 1), np.float32) * 2.5
    return Painting(np.clip(np.rint(canvas_HWC), 0, 255).astype(np.uint8), masks_OHW)


def _window(thing: SceneObject) -> tuple[slice, slice]:
    """The rows and columns that an object can touch."""
    reach = thing.radius * 1.1 + 2
    return (
        slice(max(int(thing.y - reach), 0), min(math.ceil(thing.y + reach), SIDE)),
        slice(max(int(thing.x - reach), 0), min(math.ceil(thing.x + reach), SIDE)),
    )


def _outline(thing: SceneObject, window: tuple[slice, slice]) -> tuple[Plane, Plane, Plane]:
    """Distance to the outline in pixels and the object's own axes in units of its radius."""
    across_HW = (COLUMNS_HW[window] + 0.5 - thing.x) / thing.radius
    down_HW = (ROWS_HW[window] + 0.5 - thing.y) / thing.radius
    cos, sin = math.cos(thing.angle), math.sin(thing.angle)
    u_HW, v_HW = across_HW * cos + down_HW * sin, down_HW * cos - across_HW * sin
    return OUTLINES[thing.shape](u_HW, v_HW) * thing.radius, u_HW, v_HW


def _fill(
    thing: SceneObject, distance_HW: Plane, u_HW: Plane, v_HW: Plane, rng: np.random.Generator
) -> Float[np.ndarray, "H W 3"]:
    """The object's colour, with its texture's second tone where the pattern says so."""
    tone_C = np.clip(np.array(RGB[thing.colour], np.float32) + rng.uniform(-12, 12, 3), 0, 255)
    tone_C = tone_C.astype(np.float32)
    other_C = tone_C * 0.35 if tone_C.max() > 110 else 255 - (255 - tone_C) * 0.4
    share_HW = _pattern(thing, distance_HW, u_HW * thing.radius, v_HW * thing.radius, rng)
    return tone_C + share_HW[..., None] * (other_C.astype(np.float32) - tone_C)


def _pattern(
    thing: SceneObject, distance_HW: Plane, x_HW: Plane, y_HW: Plane, rng: np.random.Generator
) -> Plane:
    """How much of the second tone each pixel has, 0 to 1; `x` and `y` in pixels."""
    if thing.texture == "striped":
        tilt = rng.uniform(-0.5, 0.5) + (math.pi / 2 if rng.random() < 0.5 else 0)
        wave_HW = np.sin((x_HW * math.cos(tilt) + y_HW * math.sin(tilt)) * (2 * math.pi / 4.6))
        return np.clip(wave_HW * 2 + 0.3, 0, 1)
    if thing.texture == "dotted":
        x_HW, y_HW = (x_HW + 2.25) % 4.5 - 2.25, (y_HW + 2.25) % 4.5 - 2.25
        return np.clip(1.9 - np.hypot(x_HW, y_HW), 0, 1)
    if thing.texture == "checkered":
        wave_HW = np.sin(x_HW * (math.pi / 3.6)) * np.sin(y_HW * (math.pi / 3.6))
        return np.clip(wave_HW * 3 + 0.5, 0, 1)
    if thing.texture == "outlined":
        return np.clip(distance_HW + 2.2, 0, 1)
    return np.zeros_like(distance_HW)
