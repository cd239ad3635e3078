"""One request to encode and its answer, whichever transport it came by; computes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from service.dictionary import Dictionary
from service.flow import Answer
from service.jobs import Item
from service.schemas import Options
from service.timings import Timings


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """What a client wants encoded."""

    items: Sequence[Item]
    options: Options
    timeout_s: float | None = None
    """What the client will wait; None leaves it to the service's own limit."""


class Encoded(NamedTuple):
    """An answer for each item, in order."""

    dictionary: Dictionary
    answers: list[Answer]
    timings: Timings
