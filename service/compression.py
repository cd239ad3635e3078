"""Compressed bodies, unpacked to a limit and no further; reads no request."""

from __future__ import annotations

import asyncio
import zlib

from koine.errors import RequestError, TooLargeError
from service.core import Account

_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
ENCODINGS = tuple(_WINDOW_BITS)
"""The values of `Content-Encoding` that are read; HTTP's `deflate` is zlib's format."""
_STEP = 2**20
"""Bytes that are unpacked before they are counted."""


async def unpacked(body: bytes, encoding: str, max_bytes: int, account: Account) -> bytes:
    """The body that `encoding` made smaller, its bytes held by `account` beside those of `body`.

    Raises `RequestError` for what is no such thing, `TooLargeError` before more than `max_bytes`
    are in memory, `OverloadedError` before more than fits beside the other requests.
    """
    stream = zlib.decompressobj(_WINDOW_BITS[encoding])
    parts: list[bytes] = []
    size, rest = 0, body
    while not stream.eof:
        try:
            part = await asyncio.to_thread(stream.decompress, rest, _STEP)
        except zlib.error as error:
            raise RequestError(
                f"the body is no {encoding}, which its Content-Encoding says: {error}"
            ) from None
        rest = stream.unconsumed_tail
        if not part and not rest and not stream.eof:
            raise RequestError(f"the {encoding} body ends early; send all of it")
        size += len(part)
        if size > max_bytes:
            raise TooLargeError(
                f"the body is larger than {max_bytes} bytes once unpacked; split the request"
            )
        account.hold(len(body) + size)
        parts.append(part)
    if stream.unused_data:
        raise RequestError(f"bytes follow the end of the {encoding} body; send one of them")
    return b"".join(parts)
