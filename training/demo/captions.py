"""Sentences that are true of a scene; knows nothing of pixels.

The first caption names every object and the background; the others name a part of the truth, in
varied words and templates.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np

from training.demo import vocabulary as words
from training.demo.scenes import Scene, SceneObject, arrangements, pick, positions, relations

CAPTIONS = 5
"""Captions of an image."""
Rng = np.random.Generator


def write_captions(scene: Scene, rng: Rng) -> list[str]:
    """`CAPTIONS` true sentences, different from each other; `rng` draws words and templates."""
    captions = [_everything(scene, rng)]
    while len(captions) < CAPTIONS:
        templates = (_pair, _pair, _some, _count, _position, _scene_first)
        caption = templates[rng.integers(len(templates))](scene, rng)
        if caption and caption not in captions:
            captions.append(caption)
    return captions


def _everything(scene: Scene, rng: Rng) -> str:
    things = [_name(thing, rng, colour=1.0, texture=0.7, size=0.6) for thing in scene.objects]
    return f"{_listed(things)} {_say(rng, words.BACKGROUNDS, scene.background)}"


def _some(scene: Scene, rng: Rng) -> str:
    """Some of the objects, some of their attributes, perhaps the background."""
    order = rng.permutation(len(scene.objects))[: rng.integers(1, 3)]
    named = _listed([_name(scene.objects[place], rng) for place in order])
    return named + _perhaps_where(scene, rng, 0.4)


def _scene_first(scene: Scene, rng: Rng) -> str:
    thing = _name(_any(scene, rng), rng)
    where = _say(rng, words.BACKGROUNDS, scene.background)
    frames = ("{where} there is {thing}", "a picture of {thing} {where}", "{where}, {thing}")
    return frames[rng.integers(len(frames))].format(where=where, thing=thing)


def _pair(scene: Scene, rng: Rng) -> str | None:
    """Two objects and how they stand to each other."""
    pairs = [(a, b, relations(a, b)) for a, b in permutations(scene.objects, 2)]
    pairs = [(a, b, held) for a, b, held in pairs if held]
    if not pairs:
        return None
    a, b, held = pairs[rng.integers(len(pairs))]
    relation = sorted(held)[rng.integers(len(held))]
    phrase = _direction(a, b, relation, rng)
    return f"{_name(a, rng)} {phrase} {_name(b, rng)}" + _perhaps_where(scene, rng, 0.25)


def _direction(a: SceneObject, b: SceneObject, relation: str, rng: Rng) -> str:
    """The words between `a` and `b` for a relation that has a direction, or any of its words."""
    phrases = words.RELATIONS[relation]
    if relation in ("beside", "above"):
        first = a.x < b.x if relation == "beside" else a.y < b.y
        return phrases[:2][rng.integers(2)] if first else phrases[2:][rng.integers(2)]
    if relation == "inside" and a.radius > b.radius:
        return "around"
    return phrases[rng.integers(len(phrases))]


def _count(scene: Scene, rng: Rng) -> str:
    """How many objects there are, and what they share."""
    objects = scene.objects
    held = sorted(arrangements(objects))
    number = _say(rng, words.COUNTS, list(words.COUNTS)[len(objects) - 1])
    kind = ("shape", "thing", "object")[rng.integers(3)]
    if "same shape" in held and rng.random() < 0.6:
        kind = words.SHAPES[objects[0].shape][0]
    colour = objects[0].colour if "same colour" in held and rng.random() < 0.6 else ""
    plural = "" if len(objects) == 1 or kind == "fish" else "es" if kind == "cross" else "s"
    said = " ".join(filter(None, (number, colour, kind + plural)))
    if held and rng.random() < 0.5:
        said += " " + _say(rng, words.ARRANGEMENTS, held[rng.integers(len(held))])
    return said + _perhaps_where(scene, rng, 0.6)


def _position(scene: Scene, rng: Rng) -> str | None:
    thing = _any(scene, rng)
    held = sorted(positions(thing))
    if not held:
        return None
    return f"{_name(thing, rng)} {_say(rng, words.POSITIONS, held[rng.integers(len(held))])}"


def _perhaps_where(scene: Scene, rng: Rng, chance: float) -> str:
    if rng.random() >= chance:
        return ""
    return " " + _say(rng, words.BACKGROUNDS, scene.background)


def _any(scene: Scene, rng: Rng) -> SceneObject:
    return scene.objects[rng.integers(len(scene.objects))]


def _name(
    thing: SceneObject, rng: Rng, *, colour: float = 0.8, texture: float = 0.5, size: float = 0.4
) -> str:
    """An object with its article; the chances say how often each attribute is named."""
    parts: list[str] = []
    if rng.random() < size:
        parts.append(_say(rng, words.SIZES, thing.size))
    if rng.random() < colour:
        parts.append(_say(rng, words.COLOURS, thing.colour))
    if rng.random() < (0.2 * texture if thing.texture == "solid" else texture):
        parts.insert(int(rng.integers(len(parts) + 1)), _say(rng, words.TEXTURES, thing.texture))
    vague = bool(parts) and colour < 1 and rng.random() < 0.08
    parts.append("thing" if vague else _say(rng, words.SHAPES, thing.shape))
    article = "an" if parts[0][0] in "aeiou" else "a"
    return f"{article} {' '.join(parts)}"


def _say(rng: Rng, group: dict[str, tuple[str, ...]], label: str) -> str:
    return pick(rng, group[label], power=1.2)


def _listed(things: list[str]) -> str:
    return ", ".join(things[:-1]) + " and " + things[-1] if len(things) > 1 else things[0]
