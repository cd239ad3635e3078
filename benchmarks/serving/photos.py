"""Synthetic images from a seed: photos as people send them, broken files and a bomb; sends none."""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SMALLEST_BYTES, LARGEST_BYTES = 100_000, 2_000_000
_BYTES_PER_PIXEL = 0.25
"""About what cameras and phones write at their usual quality."""


def photo(seed: int, width: int, height: int) -> Image.Image:
    """Shapes, texture and grain, so that JPEG and a resize have as much to do as with a photo."""
    rng = np.random.default_rng(seed)
    mixed = np.zeros((height, width, 3), np.float32)
    for cell, weight in ((96, 1.0), (16, 0.35), (3, 0.12)):
        small = (max(2, height // cell), max(2, width // cell), 3)
        noise = Image.fromarray(rng.integers(0, 256, small, dtype=np.uint8))
        mixed += weight * np.asarray(noise.resize((width, height), Image.Resampling.BILINEAR))
    return Image.fromarray(np.clip(mixed / 1.47, 0, 255).astype(np.uint8))


def jpeg(image: Image.Image, quality: int = 85) -> bytes:
    """The image as a JPEG file."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def photo_of(seed: int, target_bytes: int) -> bytes:
    """A JPEG of about that many bytes, at the quality from 40 to 95 that comes nearest."""
    pixels = target_bytes / _BYTES_PER_PIXEL
    sides = (4 / 3, 3 / 4, 3 / 2, 1.0)
    width = math.sqrt(pixels * sides[seed % len(sides)])
    image = photo(seed, round(width), round(pixels / width))
    files = [jpeg(image, quality) for quality in (40, 60, 75, 85, 92, 95)]
    return min(files, key=lambda file: abs(len(file) - target_bytes))


def sizes(count: int, seed: int) -> list[int]:
    """Bytes of `count` photos, small ones as frequent in a doubling as large ones."""
    rng = np.random.default_rng(seed)
    logs = rng.uniform(math.log(SMALLEST_BYTES), math.log(LARGEST_BYTES), count)
    return [round(math.exp(one)) for one in logs]


def photos_as_in_life(folder: Path, count: int = 12, seed: int = 0) -> list[bytes]:
    """JPEG files from 100 kB to 2 MB; made once, then read from `folder`."""
    folder = folder / f"photos-{count}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    found: list[bytes] = []
    for number, size in enumerate(sizes(count, seed)):
        file = folder / f"{number}.jpg"
        if not file.is_file():
            partial = file.with_suffix(".tmp")
            partial.write_bytes(photo_of(seed * 1000 + number, size))
            partial.rename(file)
        found.append(file.read_bytes())
    return found


def broken(seed: int) -> bytes:
    """A file that is no whole image: cut, overwritten, no image at all or nothing."""
    whole = jpeg(photo(seed, 64, 48))
    kinds: Sequence[bytes] = (
        whole[: len(whole) // 3],
        b"\xff\xd8\xff\xe0" + bytes(200),
        f"this is no image {seed}".encode(),
        b"",
        bomb(),
    )
    return kinds[seed % len(kinds)]


def bomb(side: int = 60_000) -> bytes:
    """A PNG of a few kB that claims `side` × `side` pixels; Pillow would need gigabytes for it."""
    row = zlib.compress(bytes(1 + side // 8) * 64, 9)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(name, data) for name, data in ((b"IHDR", header), (b"IDAT", row), (b"IEND", b""))
    )


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
