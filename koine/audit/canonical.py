"""JSON with one spelling (RFC 8785) for the data that the log holds; checks no schema."""

from __future__ import annotations

from typing import Any

import orjson

from koine.errors import AuditError


def canonical(data: object) -> bytes:
    """The bytes of RFC 8785 for data without floats and with ASCII keys.

    Within these limits orjson's sorted output is RFC 8785's, and a hundred times as fast as the
    `rfc8785` package (a test holds both together). Entries keep to them: whole numbers have one
    spelling, and ASCII keys sort alike by code point and by UTF-16 unit.
    Raises `AuditError` for anything else.
    """
    try:
        return orjson.dumps(data, option=orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER)
    except orjson.JSONEncodeError as error:
        raise AuditError(f"this cannot be written to the audit log: {error}") from error


def parsed(raw: bytes) -> Any:
    """The data of canonical bytes. Raises `ValueError` for other spellings of the same data."""
    data = orjson.loads(raw)
    if orjson.dumps(data, option=orjson.OPT_SORT_KEYS) != raw:
        raise ValueError("not in canonical form")
    return data
