"""What tests send: images of many kinds, items and requests."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image


def pixels(seed: int, height: int = 40, width: int = 50) -> Image.Image:
    """Noise, so that every seed is another image."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def file_bytes(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The image as a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(seed: int) -> bytes:
    """A small PNG file."""
    return file_bytes(pixels(seed))


def b64(data: bytes) -> str:
    """As JSON carries it."""
    return base64.b64encode(data).decode()


def image_item(seed: int, **more: Any) -> dict[str, Any]:
    """An item with an image."""
    return {"image": b64(png(seed)), **more}
