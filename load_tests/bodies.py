"""What each scenario sends, made from a seed and from what `/v1/info` says; knows no transport.

Knows neither Locust nor gevent, so that tests may import it.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.serving import samples as made
from benchmarks.serving.photos import photos_as_in_life
from benchmarks.serving.samples import Sample

ROOT = Path(__file__).parents[1]
PHOTOS = ROOT / "runs" / "bench"
BROKEN_SHARE = 0.01


class Body(NamedTuple):
    """One request, whatever carries it."""

    samples: tuple[Sample, ...]
    packed: bool = False
    """Whether answers are asked for packed."""
    bare: bool = False
    """Whether its one image is the whole request, where the transport has that."""

    @property
    def broken(self) -> tuple[bool, ...]:
        """Of each item, whether the right answer is an error."""
        return tuple(sample.broken for sample in self.samples)


class Served(NamedTuple):
    """What a server reads."""

    images: bool
    texts: bool
    widths: Mapping[str, int]
    """Of every stream, since each takes activations."""

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> Served:
        """From the answer of `/v1/info`."""
        accepted = {kind for stream in info["streams"] for kind in stream["accepts"]}
        widths = {stream["name"]: stream["d_in"] for stream in info["streams"]}
        return cls("image" in accepted, "text" in accepted, widths)


def photos(served: Served, count: int, seed: int, files: int) -> list[Body]:
    """One photo a request, from 100 kB to 2 MB, as its bytes."""
    rng = random.Random(seed)
    chosen = [Sample(image=file) for file in photos_as_in_life(PHOTOS, files)]
    return [Body((rng.choice(chosen),), bare=True) for _ in range(count)]


def texts(served: Served, count: int, seed: int, files: int) -> list[Body]:
    """One to eight texts a request."""
    return _drawn(made.texts(100), count, most_items=8, seed=seed)


def mixed(served: Served, count: int, seed: int, files: int) -> list[Body]:
    """Photos with a text, texts alone, and a few small pictures at once."""
    rng = random.Random(seed)
    captions = made.texts(100)
    pairs = [
        Sample(image=file, text=rng.choice(captions).text)
        for file in photos_as_in_life(PHOTOS, files)
    ]
    pictures = made.images(20, 160, 120)
    parts = [
        _drawn(pairs, count, most_items=1, seed=seed),
        _drawn(captions, count, most_items=4, seed=seed),
        _drawn(pictures, count, most_items=8, seed=seed),
    ]
    return [rng.choice(parts)[n] for n in range(count)]


def activations(served: Served, count: int, seed: int, files: int) -> list[Body]:
    """Sixteen items of one stream's activations, answers packed."""
    name = next(iter(served.widths))
    vectors = itertools.cycle(made.activations(64, {name: served.widths[name]}, seed=seed))
    return [Body(tuple(itertools.islice(vectors, 16)), packed=True) for _ in range(count)]


def poison(served: Served, count: int, seed: int, files: int) -> list[Body]:
    """Small pictures, one in a hundred broken."""
    pictures, bad, rng = made.images(40, 160, 120), made.broken_images(20), random.Random(seed)

    def picture() -> Sample:
        return rng.choice(bad if rng.random() < BROKEN_SHARE else pictures)

    return [Body(tuple(picture() for _ in range(8))) for _ in range(count)]


Maker = Callable[[Served, int, int, int], list[Body]]


class Scenario(NamedTuple):
    """What is sent, and what a server needs for it."""

    make: Maker
    needs: tuple[str, ...]
    bursts: bool = False
    """Whether all arrives in the first fifth of every ten seconds."""


SCENARIOS: dict[str, Scenario] = {
    "photos": Scenario(photos, ("images",)),
    "texts": Scenario(texts, ("texts",)),
    "mixed": Scenario(mixed, ("images", "texts")),
    "activations": Scenario(activations, ("widths",)),
    "bursts": Scenario(mixed, ("images", "texts"), bursts=True),
    "poison": Scenario(poison, ("images",)),
}


def missing(scenario: str, served: Served) -> list[str]:
    """What the server does not read and the scenario sends."""
    return [need for need in SCENARIOS[scenario].needs if not getattr(served, need)]


def _drawn(samples: Sequence[Sample], count: int, *, most_items: int, seed: int) -> list[Body]:
    rng = random.Random(seed)
    return [Body(tuple(rng.choices(samples, k=rng.randint(1, most_items)))) for _ in range(count)]
