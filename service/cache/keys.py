"""Under which key an item's codes are kept: a digest of all that they depend on; keeps nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

import koine
from koine.errors import ImageError
from koine.types import Mode
from service.cache.records import VERSION
from service.jobs import Item, image_bytes


def item_key(
    item: Item, dictionary_digest: str, streams: Sequence[str] | None, mode: Mode
) -> bytes | None:
    """SHA-256 of the item's content, the dictionary, the streams and the mode; not of its id.

    An image has one key, as bytes and as base64; activations have one as float32 and as float64.
    None for an item that cannot be read: it is never cached. Takes about a millisecond for each MB
    of an image and six for one in base64: call it off the event loop for large ones.
    """
    if item.error is not None:
        return None
    try:
        image = None if item.image is None else image_bytes(item.image)
    except ImageError:
        return None
    digest = hashlib.sha256()
    for part in (
        *_known([VERSION, koine.__version__.encode(), dictionary_digest.encode(), mode.encode()]),
        *_known(None if streams is None else [_utf8(name) for name in sorted(set(streams))]),
        *_known(None if image is None else [image]),
        *_known(None if item.text is None else [_utf8(item.text)]),
        *_known([part for name in sorted(item.activations) for part in _values(item, name)]),
    ):
        digest.update(part)
    return digest.digest()


def _known(parts: Sequence[bytes] | None) -> Iterator[bytes]:
    """Counts and lengths before contents: no two lists give the same bytes, nor does None."""
    if parts is None:
        yield b"\0"
        return
    yield b"\1" + len(parts).to_bytes(8, "little")
    for part in parts:
        yield len(part).to_bytes(8, "little")
        yield part


def _values(item: Item, name: str) -> tuple[bytes, bytes]:
    return _utf8(name), np.asarray(item.activations[name], "<f8").tobytes()


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # JSON can bring half of a surrogate pair
