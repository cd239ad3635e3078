"""One item's codes as bytes, bit for bit, and back; knows no tier.

`KOC1`, a digest of the key and the body, the body. The body is the number of streams; for each
the length of its name, k, fvu; then its name, indices and values. All little-endian.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping

import numpy as np

from service.jobs import Row

VERSION = b"KOC1"
_DIGEST_BYTES = 16
_BODY = len(VERSION) + _DIGEST_BYTES
_COUNT = struct.Struct("<H")
_STREAM = struct.Struct("<HIf")


def encode(key: bytes, rows: Mapping[str, Row]) -> bytes:
    """The record of an item's codes, to be kept under `key` only."""
    parts = [_COUNT.pack(len(rows))]
    for name, row in rows.items():
        name_bytes = name.encode()
        assert len(row.indices_K) == len(row.values_K)
        parts.append(_STREAM.pack(len(name_bytes), len(row.indices_K), row.fvu))
        parts.append(name_bytes)
        parts.append(np.asarray(row.indices_K, "<i4").tobytes())
        parts.append(np.asarray(row.values_K, "<f4").tobytes())
    body = b"".join(parts)
    return VERSION + _digest(key, body) + body


def decode(key: bytes, record: bytes) -> dict[str, Row] | None:
    """The codes in a record; None where it is damaged, of another version or of another key."""
    body = record[_BODY:]
    if record[:_BODY] != VERSION + _digest(key, body):
        return None
    try:
        return _rows(body)
    except (struct.error, ValueError):  # written by something that is not `encode`
        return None


def _rows(body: bytes) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    (streams,) = _COUNT.unpack_from(body)
    at = _COUNT.size
    for _ in range(streams):
        name_bytes, k, fvu = _STREAM.unpack_from(body, at)
        values_at = at + _STREAM.size + name_bytes + 4 * k
        name = body[at + _STREAM.size : values_at - 4 * k].decode()
        # copies, so that they are aligned and do not keep the record in memory
        indices_K = np.frombuffer(body, "<i4", k, values_at - 4 * k).astype(np.int32)
        values_K = np.frombuffer(body, "<f4", k, values_at).astype(np.float32)
        rows[name] = Row(indices_K, values_K, fvu)
        at = values_at + 4 * k
    if at != len(body) or len(rows) != streams:
        raise ValueError("the lengths do not add up")
    return rows


def _digest(key: bytes, body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_DIGEST_BYTES, key=key).digest()
