"""What parts of the traffic are called: all of it, one API key's, one label's; counts nothing."""

from __future__ import annotations

import re
from typing import NamedTuple

from koine.errors import RequestError

ALL = ""
"""All traffic."""
SEGMENT_HEADER = "koine-segment"
"""Of a request: its label."""
MOST_LABEL = 64
_KEY, _LABEL, _TIME = "key:", "label:", "time:"
_SANE = re.compile(rf"[A-Za-z0-9._-]{{1,{MOST_LABEL}}}")


class Asker(NamedTuple):
    """Who sent an item, and what it belongs to."""

    client: str = ""
    """Id of the API key; "" where there are none."""
    label: str = ""
    """What the client calls this part of its traffic; "" for nothing."""


def key_segment(client: str) -> str:
    """The traffic of one API key."""
    return _KEY + client


def label_segment(label: str) -> str:
    """The traffic that clients gave one label."""
    return _LABEL + label


def segments_of(asker: Asker) -> list[str]:
    """The segments that an item belongs to, all traffic aside."""
    found = [key_segment(asker.client)] if asker.client else []
    return [*found, label_segment(asker.label)] if asker.label else found


def by_time(segment: str) -> str:
    """What the same traffic is called, its items grouped by when they came, not by client."""
    return _TIME + segment


def is_by_time(segment: str) -> bool:
    """Whether items are grouped so: of one key's, none tells more than when they came."""
    return segment.startswith((_KEY, _TIME))


def check_label(label: str) -> str:
    """The label. Raises `RequestError` for one that is none."""
    if not _SANE.fullmatch(label):
        raise RequestError(
            f"a segment's label is 1 to {MOST_LABEL} of A-Z a-z 0-9 . _ -, got {label[:80]!r}"
        )
    return label


def is_key(segment: str) -> bool:
    """Whether it is one API key's."""
    return segment.startswith(_KEY)


def is_label(segment: str) -> bool:
    """Whether it is one of a label."""
    return segment.startswith(_LABEL)
