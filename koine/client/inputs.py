"""What can be encoded, as a caller holds it, to bytes and numbers; knows no wire format."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from koine.errors import ActivationsError, ImageError, InputError, RequestError, TextError

ImageSource = Path | str | bytes | Pillow.Image
"""A file (a `str` is its path), a file's bytes, or an image in memory, which travels as PNG."""

MAX_ID = 256
"""Characters of an id that the service takes."""
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16")
_UNREADABLE = (OSError, ValueError, TypeError, SyntaxError, EOFError)
"""What Pillow raises for an image whose file, opened lazily, is damaged."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Item:
    """One thing to encode: an image, a text, both, or activations by stream."""

    image: ImageSource | None = None
    text: str | None = None
    activations: Mapping[str, Any] | None = None
    """One row of numbers for each stream, array_D or a list."""
    id: str | None = None
    """Comes back with the result; default: its position."""


class Image(Item):
    """An image alone."""

    def __init__(self, image: ImageSource, *, id: str | None = None) -> None:
        super().__init__(image=image, id=id)


class Text(Item):
    """A text alone."""

    def __init__(self, text: str, *, id: str | None = None) -> None:
        super().__init__(text=text, id=id)


class Activations(Item):
    """What encoders have computed already, by stream."""

    def __init__(self, activations: Mapping[str, Any], *, id: str | None = None) -> None:
        super().__init__(activations=activations, id=id)


Input = Item | Path | bytes | Pillow.Image
"""An item; or a file, bytes or a Pillow image, which stand for an image."""


@dataclass(frozen=True, slots=True, eq=False)
class Resolved:
    """An item with everything in memory."""

    id: str
    image: bytes | None
    text: str | None
    activations: dict[str, np.ndarray]
    """float32 [D] by stream."""


def as_item(given: object) -> Item:
    """The item that an input stands for. Raises `InputError` for what is none."""
    if isinstance(given, Item):
        return given
    if isinstance(given, Path | bytes | Pillow.Image):
        return Item(image=given)
    if isinstance(given, str):
        raise InputError(
            f"the str {given[:40]!r} may be a text or a path; write Text(...) or Image(...)"
        )
    raise InputError(
        f"{type(given).__name__} is nothing to encode; give Image, Text, Activations or Item, or "
        "an image as Path, bytes or Pillow image"
    )


def checked_id(given: object, position: str) -> str:
    """The item's id, or its position where it has none. Raises `RequestError`."""
    if given is None:
        return position
    _check_text("id", given, RequestError)
    if len(str(given)) > MAX_ID:
        raise RequestError(f"`id` has {len(str(given))} characters, the limit is {MAX_ID}")
    return str(given)


def resolve(item: Item, id_: str) -> Resolved:
    """Reads the item's file and checks what no service could read. Raises `InputError`."""
    if item.text is not None:
        _check_text("text", item.text, TextError)
    if item.image is None and item.text is None and not item.activations:
        raise RequestError("the item has nothing to encode; give an image, a text or activations")
    activations: dict[str, np.ndarray] = {
        name: _row(name, values) for name, values in (item.activations or {}).items()
    }
    image = None if item.image is None else image_bytes(item.image)
    return Resolved(id_, image, item.text, activations)


def image_bytes(image: ImageSource) -> bytes:
    """The bytes of an image file. Raises `ImageError`."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, Pillow.Image):
        return _png(image)
    try:
        return Path(image).read_bytes()
    except (OSError, ValueError) as error:
        raise ImageError(
            f"the image {str(image)!r} cannot be read: {error}; give the path of a file"
        ) from error


def images(sources: Iterable[ImageSource]) -> Iterator[Item]:
    """An item for each image. Raises `InputError` for one image, whose bytes would be items."""
    if isinstance(sources, str | bytes | Path | Pillow.Image):
        raise InputError(f"give a list of images, got one {type(sources).__name__}; write [image]")
    return (Image(source) for source in sources)


def texts(values: Iterable[str]) -> Iterator[Item]:
    """An item for each text. Raises `InputError` for one `str`, whose letters would be items."""
    if isinstance(values, str):
        raise InputError(f"give a list of texts, got the str {values[:40]!r}; write [text]")
    return (Text(value) for value in values)


def activation_items(activations: Mapping[str, Any]) -> Iterator[Item]:
    """An item for each row of the arrays. Raises `ActivationsError` where they do not align."""
    arrays = {name: np.asarray(array_ND) for name, array_ND in activations.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    if any(len(shape) != 2 for shape in shapes.values()):
        raise ActivationsError(f"each stream needs an array of items x width, got shapes {shapes}")
    if len({shape[0] for shape in shapes.values()}) > 1:
        raise ActivationsError(f"streams need one row per item each, got shapes {shapes}")
    count = next((shape[0] for shape in shapes.values()), 0)
    return (
        Item(activations={name: array_ND[n] for name, array_ND in arrays.items()})
        for n in range(count)
    )


def _png(image: Pillow.Image) -> bytes:
    file = io.BytesIO()
    try:
        # a file's rotation tag would be lost, so the pixels are turned as the service turns them
        upright = ImageOps.exif_transpose(image)
        upright = upright if upright.mode in _PNG_MODES else upright.convert("RGB")
        upright.save(file, "PNG", compress_level=1)
    except _UNREADABLE as error:
        raise ImageError(f"the Pillow image cannot be read: {error}; send a whole image") from error
    return file.getvalue()


def _row(name: str, values: Any) -> np.ndarray:
    try:
        with np.errstate(over="ignore"):  # the service says what is beyond float32
            row_D = np.asarray(values).astype(np.float32, casting="same_kind", copy=False)
    except (TypeError, ValueError):
        raise ActivationsError(
            f"the activations of stream `{name}` must be a row of real numbers, got "
            f"{type(values).__name__} of something else"
        ) from None
    if row_D.ndim != 1:
        raise ActivationsError(
            f"the activations of stream `{name}` must be one row of numbers, got shape "
            f"{row_D.shape}"
        )
    return row_D


def _check_text(what: str, text: object, kind: type[InputError]) -> None:
    if not isinstance(text, str):
        raise kind(f"`{what}` must be str, got {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise kind(
            f"`{what}` is no Unicode text: {error}; a lone surrogate cannot be sent"
        ) from None
