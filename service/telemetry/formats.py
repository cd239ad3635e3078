"""A log record as one JSON object, or as text; a record is one line whatever a client sent.

Only a traceback in text takes several lines, each indented: none can pass for another record.
"""

from __future__ import annotations

import json
import logging
import os
import re
from datetime import UTC, datetime
from typing import Any

from service.telemetry.context import current

MOST_CHARS = 16_384
"""Of a message, and of a traceback, whose end tells most."""
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Controls, line ends of every kind, marks that reverse what is read, halves of surrogates."""


class JsonFormatter(logging.Formatter):
    """One JSON object of ASCII characters; keys that have no value are left out."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's line."""
        entry: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": _clipped(record.getMessage()),
            "pid": os.getpid(),
        }
        entry |= _request_fields()
        if exception := _exception(self, record):
            entry["exception"] = exception
        more = {name: value for name, value in _fields(record).items() if name not in entry}
        return json.dumps(entry | more, default=str, separators=(",", ":"))


class TextFormatter(logging.Formatter):
    """For people: time, level, logger, message, then what else is known as `name=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's line, and its traceback's."""
        parts = [_time(record), record.levelname, f"{record.name}[{os.getpid()}]"]
        parts.append(escaped(_clipped(record.getMessage())))
        known = {**_request_fields(), **_fields(record)}
        parts += [f"{name}={escaped(str(value))}" for name, value in known.items()]
        line = " ".join(parts)
        if exception := _exception(self, record):
            line += "".join(f"\n  {escaped(part)}" for part in exception.splitlines())
        return line


def escaped(text: str) -> str:
    """The text without anything that could end a line or change how it is read."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")


def _request_fields() -> dict[str, str]:
    request = current()
    if request is None:
        return {}
    known = {
        "request_id": request.id, "trace_id": request.trace_id, "span_id": request.span_id
    }  # fmt: skip
    return {name: value for name, value in known.items() if value is not None}


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """What the caller gave as `extra={"fields": …}`."""
    return getattr(record, "fields", {})


def _exception(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    # the text first: a filter may have masked what it holds
    told = record.exc_text or ""
    if record.exc_info and not told:
        told = formatter.formatException(record.exc_info)
    if record.stack_info:
        told += f"\n{formatter.formatStack(record.stack_info)}"
    cut = len(told) - MOST_CHARS
    return f"({cut} characters cut) …{told[cut:]}" if cut > 0 else told


def _clipped(text: str) -> str:
    cut = len(text) - MOST_CHARS
    return f"{text[:MOST_CHARS]}… ({cut} characters cut)" if cut > 0 else text
