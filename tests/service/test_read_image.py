"""What `KOINE_JPEG_SHRINK` makes of an image, for streams that resize to different sides."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from koine.artifact import Artifact
from koine.encoder import ConceptEncoder
from koine.streams import ImagePreprocess
from service import jobs

NAMES = ("tiny_a", "tiny_b")


@pytest.fixture(scope="module")
def encoder(tiny_artifact: Artifact) -> ConceptEncoder:
    return ConceptEncoder(tiny_artifact, providers=["CPUExecutionProvider"], threads=1)


def sides(encoder: ConceptEncoder) -> list[int]:
    specs = [encoder.streams[name].preprocess for name in NAMES]
    return [spec.resize_size for spec in specs if isinstance(spec, ImagePreprocess)]


@pytest.mark.parametrize(("shrink", "keep"), [(0, None), (1, 1), (3, 3)])
def test_the_largest_stream_decides_what_is_kept(
    encoder: ConceptEncoder, monkeypatch: pytest.MonkeyPatch, shrink: int, keep: int | None
) -> None:
    asked: list[int | None] = []
    real = jobs.decode_image

    def watched(data: bytes, *, keep_side: int | None, **options: Any) -> Image.Image:
        asked.append(keep_side)
        return real(data, keep_side=keep_side, **options)

    monkeypatch.setattr(jobs, "decode_image", watched)
    jobs.read_image(jpeg(), NAMES, encoder, max_pixels=10**7, jpeg_shrink=shrink)
    assert asked == [None if keep is None else keep * max(sides(encoder))]


def test_a_shrunk_jpeg_gives_every_stream_nearly_its_pixels(encoder: ConceptEncoder) -> None:
    data = jpeg()
    whole = jobs.read_image(data, NAMES, encoder, max_pixels=10**7)
    shrunk = jobs.read_image(data, NAMES, encoder, max_pixels=10**7, jpeg_shrink=4)
    for name in NAMES:
        assert shrunk[name].shape == whole[name].shape
        difference = np.abs(shrunk[name].astype(int) - whole[name])
        assert difference.max() > 0, "the image was decoded whole"
        assert difference.mean() <= 0.5  # tests/koine/test_shrink_on_load.py


def jpeg() -> bytes:
    """1,600×1,200 pixels: slopes with grain."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(40, 215, (6, 8, 3), dtype=np.uint8))
    pixels_HWC = np.asarray(coarse.resize((1600, 1200)), float) + rng.normal(0, 5, (1200, 1600, 3))
    buffer = io.BytesIO()
    Image.fromarray(pixels_HWC.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
