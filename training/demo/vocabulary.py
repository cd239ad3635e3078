"""The concepts of the demo corpus and the words that name them; draws nothing.

Order and weights set how often a concept occurs: a moderately long tail, a few concepts in most
scenes and others in one of fifty.
"""

from __future__ import annotations

SHAPES: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
    "heart": ("heart",),
    "ring": ("ring", "donut"),
    "tree": ("tree",),
    "cross": ("cross", "plus sign"),
    "house": ("house", "hut"),
    "fish": ("fish",),
    "crescent": ("crescent", "moon"),
    "flower": ("flower", "blossom"),
    "diamond": ("diamond", "rhombus"),
    "arrow": ("arrow",),
    "hexagon": ("hexagon",),
    "oval": ("oval", "ellipse"),
}
"""Shape → its words, commonest first."""

COLOURS: dict[str, tuple[str, ...]] = {
    "red": ("red", "crimson"),
    "blue": ("blue",),
    "yellow": ("yellow", "golden"),
    "green": ("green",),
    "white": ("white",),
    "orange": ("orange",),
    "purple": ("purple", "violet"),
    "black": ("black",),
    "pink": ("pink", "rosy"),
    "cyan": ("cyan", "turquoise"),
    "brown": ("brown",),
    "grey": ("grey", "gray"),
}
"""Colour → its words, commonest first."""

RGB: dict[str, tuple[int, int, int]] = {
    "red": (216, 32, 36),
    "blue": (34, 70, 214),
    "yellow": (246, 216, 36),
    "green": (30, 150, 50),
    "white": (246, 246, 246),
    "orange": (248, 136, 20),
    "purple": (132, 44, 168),
    "black": (22, 22, 24),
    "pink": (250, 130, 186),
    "cyan": (40, 206, 214),
    "brown": (122, 72, 30),
    "grey": (130, 132, 134),
}
"""Colour → its pixels before jitter."""

TEXTURES: dict[str, tuple[str, ...]] = {
    "solid": ("solid",),
    "striped": ("striped", "stripy"),
    "dotted": ("dotted", "spotted"),
    "outlined": ("outlined", "rimmed"),
    "checkered": ("checkered", "chequered"),
}
"""Texture → its adjectives, commonest first."""

SIZES: dict[str, tuple[str, ...]] = {
    "medium": ("medium", "mid-sized"),
    "small": ("small", "tiny", "little"),
    "large": ("large", "big", "huge"),
}
"""Size → its adjectives, commonest first."""

RADII: dict[str, tuple[float, float]] = {
    "small": (5.5, 7.0),
    "medium": (9.0, 11.0),
    "large": (14.0, 17.0),
}
"""Size → least and greatest radius in pixels of a 64-pixel image."""

BACKGROUNDS: dict[str, tuple[str, ...]] = {
    "plain": ("on a plain background", "on an empty backdrop"),
    "grass": ("on grass", "on the lawn", "in a meadow"),
    "sky": ("in the sky", "against the sky"),
    "sand": ("on sand", "on the beach", "in the desert"),
    "night": ("at night", "in the dark"),
    "sea": ("in the sea", "on the water", "in the ocean"),
    "gradient": ("on a gradient", "on a fading backdrop"),
    "snow": ("in the snow", "on snow", "in winter"),
    "sunset": ("at sunset", "at dusk"),
    "brick": ("in front of a brick wall", "on bricks"),
}
"""Background → phrases that place objects on it, commonest first."""

POSITIONS: dict[str, tuple[str, ...]] = {
    "centre": ("in the middle", "in the centre"),
    "left side": ("on the left side", "at the left edge"),
    "right side": ("on the right side", "at the right edge"),
    "top": ("at the top", "near the upper edge"),
    "bottom": ("at the bottom", "near the lower edge"),
}
"""Place in the picture → phrases."""

RELATIONS: dict[str, tuple[str, ...]] = {
    "beside": ("to the left of", "left of", "to the right of", "right of"),
    "above": ("above", "over", "below", "under"),
    "near": ("next to", "close to"),
    "far apart": ("far from", "far away from"),
    "overlapping": ("overlapping", "partly covering"),
    "inside": ("inside", "within"),
}
"""Relation of a pair → phrases; `beside` and `above` hold a phrase for each direction."""

ARRANGEMENTS: dict[str, tuple[str, ...]] = {
    "in a row": ("in a row", "lined up side by side"),
    "in a column": ("in a column", "stacked up"),
    "same shape": ("alike in shape", "of the same shape"),
    "same colour": ("in one colour", "of the same colour"),
}
"""What holds for all objects of a scene → phrases."""

COUNTS: dict[str, tuple[str, ...]] = {
    "one object": ("a single", "one"),
    "two objects": ("two", "a pair of"),
    "three objects": ("three",),
    "four objects": ("four",),
}
"""How many objects there are → phrases."""

GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "shape": SHAPES,
    "colour": COLOURS,
    "texture": TEXTURES,
    "size": SIZES,
    "background": BACKGROUNDS,
    "position": POSITIONS,
    "relation": RELATIONS,
    "arrangement": ARRANGEMENTS,
    "count": COUNTS,
}
"""Group → its labels and their words."""

LABELS: tuple[str, ...] = tuple(label for group in GROUPS.values() for label in group)
"""All labels, in the order in which they are listed everywhere."""

CONTAINERS = ("circle", "square", "ring", "hexagon")
"""Shapes that hold a smaller object wholly within their outline."""

AVOIDED: dict[str, tuple[str, ...]] = {
    "plain": ("grey", "white"),
    "grass": ("green",),
    "sky": ("cyan",),
    "sand": ("yellow", "brown"),
    "night": ("black", "blue"),
    "sea": ("blue", "cyan"),
    "gradient": (),
    "snow": ("white", "grey"),
    "sunset": ("orange", "purple"),
    "brick": ("brown", "red"),
}
"""Background → colours that would hardly be seen on it."""

FAVOURED: dict[str, tuple[str, ...]] = {
    "grass": ("tree", "house", "flower"),
    "sky": ("crescent", "star"),
    "night": ("crescent", "star"),
    "sea": ("fish",),
    "snow": ("house", "tree"),
}
"""Background → shapes that occur on it three times as often."""

HUES: dict[str, tuple[str, ...]] = {
    "tree": ("green",),
    "heart": ("red", "pink"),
    "fish": ("orange",),
    "crescent": ("yellow",),
    "flower": ("pink", "purple"),
}
"""Shape → colours that it has four times as often."""
