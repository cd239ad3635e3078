"""What each scenario sends, made from a seed and from what `/v1/info` says; sends nothing.

Knows neither Locust nor gevent, so that tests may import it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.serving import samples as made
from benchmarks.serving.load import Request
from benchmarks.serving.photos import photos_as_in_life
from benchmarks.serving.samples import Sample

ROOT = Path(__file__).parents[1]
PHOTOS = ROOT / "runs" / "bench"
JSON, JPEG = "application/json", "image/jpeg"
BROKEN_SHARE = 0.01


class Body(NamedTuple):
    """One request's body and what its answer must look like."""

    data: bytes
    content_type: str
    broken: tuple[bool, ...]
    """Of each item, whether the right answer is an error."""


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
    chosen = photos_as_in_life(PHOTOS, files)
    return [Body(rng.choice(chosen), JPEG, (False,)) for _ in range(count)]


def texts(served: Served, count: int, seed: int, files: int) -> list[Body]:
    """One to eight texts a request."""
    return _json(made.texts(100), count, most_items=8, seed=seed)


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
        _json(pairs, count, most_items=1, seed=seed),
        _json(captions, count, most_items=4, seed=seed),
        _json(pictures, count, most_items=8, seed=seed),
    ]
    return [rng.choice(parts)[n] for n in range(count)]


def activations(served: Served, count: int, seed: int, files: int) -> list[Body]:
    """Sixteen items of one stream's activations, answers packed."""
    name = next(iter(served.widths))
    vectors = made.activations(64, {name: served.widths[name]}, seed=seed)
    return [_body(vectors, one) for one in made.requests(vectors, 16, count, encoding="packed")]


def poison(served: Served, count: int, seed: int, files: int) -> list[Body]:
    """Small pictures, one in a hundred broken."""
    pictures, bad = made.images(40, 160, 120), made.broken_images(20)
    every, rng = [*pictures, *bad], random.Random(seed)

    def place() -> int:
        first, end = (len(pictures), len(every)) if rng.random() < BROKEN_SHARE else (0, 40)
        return rng.randrange(first, end)

    return [_body(every, made.request(every, [place() for _ in range(8)])) for _ in range(count)]


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


def fault(body: Body, status: int, answer: bytes) -> str | None:
    """What is wrong with an answer, in a few words that are the same for the same fault."""
    if status != 200:
        return f"status {status}"
    try:
        results = json.loads(answer)["results"]
        errors = tuple("error" in one for one in results)
    except (ValueError, KeyError, TypeError):
        return "an answer without results"
    if len(errors) != len(body.broken):
        return "another number of results"
    return None if errors == body.broken else "an error where codes belong, or the reverse"


def _json(samples: Sequence[Sample], count: int, *, most_items: int, seed: int) -> list[Body]:
    found = made.mixed_requests(samples, count, most_items=most_items, seed=seed)
    return [_body(samples, one) for one in found]


def _body(samples: Sequence[Sample], request: Request) -> Body:
    return Body(request.body, JSON, tuple(samples[at].broken for at in request.samples))
