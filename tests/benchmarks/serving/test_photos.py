"""Synthetic files are what they claim to be."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.serving.photos import (
    LARGEST_BYTES,
    SMALLEST_BYTES,
    bomb,
    broken,
    photo_of,
    photos_as_in_life,
    sizes,
)
from koine.errors import ImageError
from koine.images import MAX_PIXELS, decode_image


def test_photos_have_about_the_size_asked_for() -> None:
    for seed in range(4):
        file = photo_of(seed, 120_000)
        assert len(file) == pytest.approx(120_000, rel=0.35)
        assert file == photo_of(seed, 120_000)
    with Image.open(io.BytesIO(photo_of(0, 100_000))) as image:
        assert image.width > image.height


def test_sizes_are_spread_over_the_range() -> None:
    found = sizes(200, seed=1)
    assert SMALLEST_BYTES <= min(found) < 2 * SMALLEST_BYTES
    assert LARGEST_BYTES / 2 < max(found) <= LARGEST_BYTES


def test_photos_are_made_once(tmp_path: Path) -> None:
    first = photos_as_in_life(tmp_path, count=1, seed=5)
    (written,) = tmp_path.rglob("*.jpg")
    changed = written.stat().st_mtime_ns
    assert photos_as_in_life(tmp_path, count=1, seed=5) == first
    assert written.stat().st_mtime_ns == changed


@pytest.mark.parametrize("seed", range(10))
def test_broken_files_are_refused(seed: int) -> None:
    with pytest.raises(ImageError):
        decode_image(broken(seed), max_pixels=MAX_PIXELS)


def test_a_bomb_is_small_and_claims_much() -> None:
    assert len(bomb()) < 2000
    with pytest.raises(ImageError, match="pixels"):
        decode_image(bomb(), max_pixels=MAX_PIXELS)
