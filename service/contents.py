"""What an item's parts are known by: the SHA-256 of each; keeps nothing.

The cache, the audit log and whoever counts items without their twins all go by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from koine.audit.events import content_digest
from koine.errors import ImageError
from service.jobs import Item, image_bytes

Contents = Mapping[str, str]
"""`image`, `text` or `activations.STREAM` → SHA-256 as hex."""
IMAGE, TEXT, ACTIVATIONS = "image", "text", "activations."
_FLOAT32 = np.dtype("<f4")


def contents_of(item: Item) -> Contents | None:
    """The digests of an item's parts; None for an item that cannot be read.

    An image has one, as bytes and as base64, and so have activations of any precision: they are
    told apart as float32. Takes about a millisecond for each MB of an image and six for one in
    base64: call it off the event loop for large ones.
    """
    if item.error is not None:
        return None
    found: dict[str, str] = {}
    if item.image is not None:
        try:
            found[IMAGE] = content_digest(image_bytes(item.image))
        except ImageError:
            return None
    if item.text is not None:
        found[TEXT] = content_digest(utf8(item.text))
    for name, values_D in item.activations.items():
        found[ACTIVATIONS + name] = content_digest(_float32(values_D))
    return found


def contents_of_all(items: Sequence[Item]) -> list[Contents | None]:
    """Of each item, in order."""
    return [contents_of(item) for item in items]


def _float32(values_D: Float[np.ndarray, "D"]) -> memoryview:
    """The values' bytes, without a copy where they are such already."""
    if values_D.dtype != _FLOAT32:
        with np.errstate(over="ignore"):
            values_D = values_D.astype(_FLOAT32)
    return np.ascontiguousarray(values_D).data


def utf8(text: str) -> bytes:
    """A text as it is hashed; JSON can bring half of a surrogate pair."""
    return text.encode("utf-8", "surrogatepass")
