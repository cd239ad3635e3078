"""What is done to traffic so that it drifts; sends nothing.

label=red x3         items with that label are drawn three times as often as they were
word=dog x0.2        the same by a word of the captions
stream=clip_image    one stream alone reads grey, blurred images; the others the right ones
outside              noise for images and texts of random letters: nothing the dictionary knows
"""

from __future__ import annotations

import io
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from koine.artifact import Artifact
from koine.encoder import ConceptEncoder
from koine.errors import RequestError
from monitoring.replay.corpus import Corpus, Item

_WEIGHED = re.compile(r"(label|word)=(.+?)\s+[x×]\s*(\d+(?:\.\d+)?)")
BLUR = 4
"""Radius in pixels of a 64-pixel image, in proportion on larger ones."""


class Weighed(NamedTuple):
    """Some items are drawn more or less often."""

    by: str
    name: str
    times: float

    def hits(self, corpus: Corpus, at: int) -> bool:
        """Whether an item is one of them."""
        found = corpus.labels(at) if self.by == "label" else corpus.words(at)
        return self.name in found


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """Everything that is done at once; none of it is quiet traffic."""

    weighed: tuple[Weighed, ...] = ()
    """Whose items are drawn more or less often."""
    streams: tuple[str, ...] = ()
    """Streams that read degraded images."""
    outside: bool = False
    """Whether items are noise."""


QUIET = Drift()


def read_drift(specs: Sequence[str]) -> Drift:
    """From what stands behind `--drift`. Raises `RequestError`."""
    weighed: list[Weighed] = []
    streams: list[str] = []
    outside = False
    for spec in specs:
        if found := _WEIGHED.fullmatch(spec.strip()):
            weighed.append(Weighed(found[1], found[2], float(found[3])))
        elif spec.startswith("stream="):
            streams.append(spec.removeprefix("stream="))
        elif spec == "outside":
            outside = True
        else:
            raise RequestError(
                f"`--drift {spec!r}` is none: use 'label=red x3', 'word=dog x0.5', "
                "'stream=clip_image' or 'outside'"
            )
    return Drift(weighed=tuple(weighed), streams=tuple(streams), outside=outside)


def weights(corpus: Corpus, drift: Drift) -> np.ndarray:
    """How likely each item is drawn. Raises `RequestError` for a label that no item has."""
    weight_N = np.ones(len(corpus))
    for one in drift.weighed:
        hit_N = np.array([one.hits(corpus, at) for at in range(len(corpus))])
        if not hit_N.any():
            raise RequestError(f"no item has the {one.by} {one.name!r}")
        weight_N[hit_N] *= one.times
    if not weight_N.any():
        raise RequestError("every item is drawn 0 times: take a factor above 0")
    return weight_N / weight_N.sum()


def outside(item: Item, rng: np.random.Generator) -> Item:
    """Noise in the place of an item."""
    noise = Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8))
    letters = rng.choice(list(string.ascii_lowercase), (6, 7))
    text = " ".join("".join(word) for word in letters) if item.caption is not None else None
    return Item(_png(noise), text, item.labels)


class Degraded:
    """Activations as one stream's encoder makes them of a spoilt image.

    The service cannot be asked to spoil one stream's input, so they are computed here, from the
    same artifact, and sent beside the image, which the other streams read.
    """

    def __init__(self, artifact: Artifact, streams: Sequence[str]) -> None:
        """Raises `UnknownStreamError`, `ArtifactError`."""
        self._encoder = ConceptEncoder(artifact, threads=1)
        self._streams = streams

    def of(self, image: bytes) -> dict[str, list[float]]:
        """By stream."""
        whole = Image.open(io.BytesIO(image)).convert("L").convert("RGB")
        spoilt = whole.filter(ImageFilter.GaussianBlur(BLUR * min(whole.size) / 64))
        found: dict[str, list[float]] = {}
        for stream in self._streams:
            batch = self._encoder.preprocess(stream, spoilt)[None]
            found[stream] = self._encoder.activations(stream, batch)[0].tolist()
        return found


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()
