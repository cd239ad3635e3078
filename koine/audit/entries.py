"""An event's place in the log, as one line of canonical JSON; opens no file.

An entry is `{"event", "format", "previous", "sequence", "time", "writer"}`. Its hash is RFC 6962's
leaf hash of the line, so that the chain (`previous`) and the tree are over the same hashes.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

from pydantic import TypeAdapter, ValidationError

from koine.audit.canonical import parsed
from koine.audit.events import Event
from koine.audit.merkle import leaf_hash
from koine.errors import AuditError

FORMAT = 1
"""Of entries and segments; a reader refuses others."""
WRITER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_KEYS = {"event", "format", "previous", "sequence", "time", "writer"}
_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


class Entry(NamedTuple):
    """One line of the log, read."""

    writer: str
    sequence: int
    """0 for the writer's first."""
    time: str
    """UTC, never before that of the entry ahead."""
    previous: str
    """Hash of the entry ahead, as hex; zeros for the first."""
    event: dict[str, Any]
    hash: bytes


def chained(
    events: Sequence[bytes], writer: str, first: int, time: str, previous: bytes
) -> tuple[list[bytes], list[bytes]]:
    """Lines of entries, without newlines, around events' canonical bytes, and their hashes.

    `first`: sequence number of the first; `previous`: hash of the entry ahead of it.
    """
    lines: list[bytes] = []
    hashes: list[bytes] = []
    end = f',"time":"{time}","writer":"{writer}"}}'.encode()
    for sequence, event in enumerate(events, start=first):
        line = b'{"event":%b,"format":%d,"previous":"%b","sequence":%d%b' % (
            event, FORMAT, previous.hex().encode(), sequence, end,
        )  # fmt: skip
        previous = leaf_hash(line)
        lines.append(line)
        hashes.append(previous)
    return lines, hashes


def read_entry(line: bytes) -> Entry:
    """The entry that a line holds. Raises `ValueError` with the reason if it holds none."""
    data = parsed(line)
    if not isinstance(data, dict):
        raise ValueError("no JSON object")
    fields = cast("dict[str, Any]", data)
    if fields.keys() != _KEYS:
        raise ValueError(f"keys {', '.join(sorted(fields))}; an entry has {', '.join(_KEYS)}")
    if fields["format"] != FORMAT:
        raise ValueError(f"format {fields['format']!r}; this Koine reads {FORMAT}")
    sequence, time = fields["sequence"], fields["time"]
    if type(sequence) is not int or not isinstance(time, str) or not _TIME.fullmatch(time):
        raise ValueError(f"sequence {sequence!r} or time {time!r} is of the wrong form")
    return Entry(
        fields["writer"], sequence, time, fields["previous"], fields["event"], leaf_hash(line)
    )


def event_of(entry: Entry) -> Event:
    """The entry's event, checked. Raises `AuditError` for one of no known kind or form."""
    try:
        return _EVENT.validate_python(entry.event, strict=False)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise AuditError(
            f"entry {entry.sequence} of {entry.writer} holds no known event: `{place}` "
            f"{fault['msg']}"
        ) from error


def now() -> str:
    """The time as entries have it: UTC to the microsecond."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def node_name() -> str:
    """This machine or pod, as the first part of a writer's name."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:48].lstrip("_.-")
    return name or "node"
