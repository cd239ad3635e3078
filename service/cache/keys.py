"""Under which key an item's codes are kept: a digest of all that they depend on; keeps nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import koine
from koine.types import Mode
from service.cache.records import VERSION
from service.contents import Contents, utf8


def item_key(
    contents: Contents | None, dictionary_digest: str, streams: Sequence[str] | None, mode: Mode
) -> bytes | None:
    """SHA-256 of an item's contents, the dictionary, the streams and the mode; not of its id.

    None for an item that cannot be read: it is never cached.
    """
    if contents is None:
        return None
    digest = hashlib.sha256()
    for part in (
        *_known([VERSION, koine.__version__.encode(), dictionary_digest.encode(), mode.encode()]),
        *_known(None if streams is None else [utf8(name) for name in sorted(set(streams))]),
        *_known([utf8(part) for pair in sorted(contents.items()) for part in pair]),
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
