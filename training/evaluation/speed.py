"""How fast and how large a loaded artifact is, for a process of its own; knows no torch.

What is timed is what serving does with an item: decode, preprocess or tokenise, backbone, head.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from koine.artifact import Artifact
from koine.encoder import ConceptEncoder
from koine.images import decode_image
from koine.sessions import CPU
from koine.streams import ImagePreprocess, TextPreprocess
from koine.types import ActsND
from training.export.samples import sample_images, sample_texts

BATCH = 16
MIN_SECONDS, MIN_BATCHES = 1.5, 3
"""A stream is timed for as long as both say."""


class Speed(NamedTuple):
    """An artifact's speed and size on this machine's CPU."""

    items_per_second: dict[str, float]
    """By stream: `BATCH` items over the median time of a batch, all cores."""
    reads: dict[str, str]
    """By stream: JPEG images, texts, or activations where it has no backbone."""
    load_seconds: float
    peak_bytes: int | None
    """Largest resident memory of a process that does nothing else; None off Linux."""


def speed(path: Path, captions: Sequence[str]) -> Speed:
    """Load the artifact at `path` and time each stream alone."""
    started = time.perf_counter()
    encoder = ConceptEncoder(Artifact.open(path), providers=[CPU])
    encoder.warm_up()
    loaded = time.perf_counter() - started
    rates, reads = {}, {}
    for name in encoder.streams:
        reads[name], acts = _reader(encoder, name, captions)
        rates[name] = BATCH / _seconds(lambda name=name, acts=acts: encoder.encode({name: acts()}))
    return Speed(rates, reads, loaded, _peak_bytes())


def _reader(
    encoder: ConceptEncoder, name: str, captions: Sequence[str]
) -> tuple[str, Callable[[], ActsND]]:
    """What the stream reads, and what makes a batch of activations of it."""
    spec = encoder.streams[name]
    has_backbone = encoder.artifact.manifest.stream(name).backbone is not None  # pyright: ignore[reportOptionalMemberAccess]
    if has_backbone and isinstance(spec.preprocess, ImagePreprocess):
        files = [_jpeg(image) for image in sample_images(BATCH)]
        return "JPEG images", lambda: encoder.activations(
            name, np.stack([encoder.preprocess(name, decode_image(file)) for file in files])
        )
    if has_backbone and isinstance(spec.preprocess, TextPreprocess):
        texts = list(captions[:BATCH]) or sample_texts((), BATCH)
        texts = [texts[i % len(texts)] for i in range(BATCH)]
        return "texts", lambda: encoder.activations(name, encoder.tokenize(name, texts))
    acts_ND = np.random.default_rng(0).normal(size=(BATCH, spec.d_in)).astype(np.float32)
    return "activations", lambda: acts_ND


def _seconds(run: Callable[[], object]) -> float:
    """Median time of a batch, after one that is not counted."""
    run()
    times: list[float] = []
    while len(times) < MIN_BATCHES or sum(times) < MIN_SECONDS:
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return float(np.median(times))


def _jpeg(image: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)  # pyright: ignore[reportAttributeAccessIssue]
    return buffer.getvalue()


def _peak_bytes() -> int | None:
    # not getrusage: its peak counts the parent's memory, which the child had before it started
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(x.split()[1]) * 1024 for x in lines if x.startswith("VmHWM")), None)
