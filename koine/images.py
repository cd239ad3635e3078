"""Image bytes to the pixels that a backbone reads; knows no model and no framework.

The one implementation for training and serving, bit-equal to timm's and open_clip's evaluation
transforms up to their `ToTensor`. As both do, colour is `convert("RGB")`: the alpha channel is
dropped (not composited on a background), CMYK is converted without colour profiles. Conversion
comes before resizing, as in timm. Beyond them: EXIF rotation is applied, 16-bit grey is scaled to
8 bits (Pillow alone would clip it), and an animation gives its first frame.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from koine.bombs import refuse_bombs
from koine.errors import ImageError
from koine.streams import ImagePreprocess
from koine.types import ImageHWC

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")
MAX_PIXELS = 64_000_000
"""Decoded pixels that an image may have; every phone's default photo fits. Decoding takes 4 bytes a
pixel, as long again where it is turned upright or converted to RGB; progressive JPEG up to 6
more, WebP 12 more."""
MAX_RESIZED_PIXELS = 4096 * 4096
"""Above this many pixels after resizing (aspect 256:1 at 256) only the kept square is made."""

_INTERPOLATIONS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "nearest": Image.Resampling.NEAREST,
}
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
# What Pillow's decoders raise for damaged files, found by fuzzing and by reading them.
_DAMAGES = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    AttributeError,
    NotImplementedError,
    MemoryError,
    struct.error,
    zlib.error,
)


def decode_image(
    data: bytes, *, max_pixels: int = MAX_PIXELS, keep_side: int | None = None
) -> Image.Image:
    """Decode a JPEG, PNG, WebP, GIF, TIFF or BMP file to an upright RGB image.

    The size is read from the header and held against `max_pixels` before a pixel is decoded.
    With `keep_side` a JPEG may come out at 1/2, 1/4 or 1/8 of its size, scaled by its cosine
    transform, so long as its shorter side keeps that many pixels; without it every pixel is
    decoded. Raises ImageError for anything that is not a whole, readable image within the limit.
    """
    if not data:
        raise ImageError("the image is empty (0 bytes); send the bytes of an image file")
    image = _open(data, max_pixels)
    if keep_side is not None:
        _shrink_on_load(image, keep_side)
    try:
        image.load()
    except _BOMBS as error:
        raise _bomb(max_pixels) from error
    except _DAMAGES as error:
        raise ImageError(
            f"the {image.format} image ({image.width}×{image.height}, {len(data):,} bytes) is "
            f"truncated or damaged: {error}; send the whole file"
        ) from error
    return _to_rgb(_upright(image))


def preprocess_image(image: Image.Image, spec: ImagePreprocess) -> ImageHWC:
    """Resize and crop an RGB image as `spec` says: uint8, `crop_size` square.

    Sizes round as in torchvision: the longer side down, crop margins half to even. An image so
    long that resizing it whole would take more than `MAX_RESIZED_PIXELS` is resampled inside the
    kept square only: the same picture, to ±1 level.
    """
    if image.mode != "RGB":
        raise ImageError(f"preprocessing reads RGB images, got mode {image.mode}; decode it first")
    size = resized_size(image.size, spec)
    left, top = (round((side - spec.crop_size) / 2.0) for side in size)
    square = (left, top, left + spec.crop_size, top + spec.crop_size)
    method = _INTERPOLATIONS[spec.interpolation]
    if size[0] * size[1] > MAX_RESIZED_PIXELS:
        return np.array(_resample_square(image, size, square, method))
    return np.array(image.resize(size, method).crop(square))


def _open(data: bytes, max_pixels: int) -> Image.Image:
    """Read the header and hold the size against the limit; no pixel is decoded yet."""
    refuse_bombs(data)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except _BOMBS as error:
        raise _bomb(max_pixels) from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{len(data):,} bytes that begin with {data[:8]!r} are no image of a known format; "
            f"send {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        ) from error
    except _DAMAGES as error:
        raise ImageError(f"the image's header is damaged: {error}; send the whole file") from error
    if image.width * image.height > max_pixels:
        raise _too_large(max_pixels, f"{image.width:,}×{image.height:,}")
    return image


def _shrink_on_load(image: Image.Image, keep_side: int) -> None:
    """Have a JPEG decoded at the smallest scale that divides its sides and keeps enough of them.

    Where a side were rounded, the resized picture could lie a pixel beside that of the whole file.
    """
    if image.format not in ("JPEG", "MPO"):
        return
    for scale in (8, 4, 2):
        width, height = image.width // scale, image.height // scale
        whole = image.size == (width * scale, height * scale)
        if whole and min(width, height) >= max(keep_side, 1):
            image.draft(None, (width, height))
            return


def _bomb(max_pixels: int) -> ImageError:
    """Pillow's own guard, which stops at this many pixels whatever `max_pixels` says."""
    guard = Image.MAX_IMAGE_PIXELS or max_pixels
    return _too_large(min(max_pixels, guard), f"more than {guard:,}")


def _too_large(max_pixels: int, got: str) -> ImageError:
    return ImageError(
        f"the image has {got} pixels and at most {max_pixels:,} are read; shrink it before sending"
    )


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; metadata that cannot be read counts as none, as in viewers."""
    try:
        if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
            return image  # `exif_transpose` would copy it
        return ImageOps.exif_transpose(image)
    except _DAMAGES:
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):
        # Pillow clips at 255 here; the high byte is what it keeps of 16-bit RGB.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ImageError(
            f"the {image.format or 'decoded'} image has 32-bit pixels (mode {image.mode}), which "
            "have no agreed range; send 8 or 16 bits per channel"
        )
    if image.mode == "P" and "transparency" in image.info:
        # The same colours; straight to RGB Pillow warns about the alpha that it drops.
        image = image.convert("RGBA")
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise ImageError(
            f"no conversion from colour mode {image.mode} to RGB; send an RGB image"
        ) from error


def resized_size(size: tuple[int, int], spec: ImagePreprocess) -> tuple[int, int]:
    """Width and height after resizing, rounded as torchvision does."""
    target = spec.resize_size
    if spec.resize == "squash":
        return target, target
    width, height = size
    if width <= height:
        return target, int(target * height / width)
    return int(target * width / height), target


def _resample_square(
    image: Image.Image,
    size: tuple[int, int],
    square: tuple[int, int, int, int],
    method: Image.Resampling,
) -> Image.Image:
    """`image.resize(size, method).crop(square)` without the pixels outside the square."""
    scales = (image.width / size[0], image.height / size[1])
    first = [square[axis] * scales[axis] for axis in (0, 1)]
    last = [square[axis + 2] * scales[axis] for axis in (0, 1)]
    # Pillow's box is float32: cut out what the filters reach, so that its numbers are small.
    reach = [2 * max(scale, 1.0) + 2 for scale in scales]
    near = [max(0, int(first[axis] - reach[axis])) for axis in (0, 1)]
    far = [min(image.size[axis], int(last[axis] + reach[axis]) + 1) for axis in (0, 1)]
    box = (first[0] - near[0], first[1] - near[1], last[0] - near[0], last[1] - near[1])
    sides = (square[2] - square[0], square[3] - square[1])
    return image.crop((near[0], near[1], far[0], far[1])).resize(sides, method, box=box)
