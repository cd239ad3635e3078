"""The concepts of a dictionary, found and paged; names none, knows no HTTP."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from koine.concepts import Concept
from koine.errors import RequestError, UnknownConceptError
from service.dictionary import Dictionary

MOST, DEFAULT = 1000, 50
"""Concepts of one page: at most, and where nobody says."""
_CURSOR = re.compile(r"([0-9a-f]{16}):([0-9]{1,9})")
_ID = re.compile(r"[0-9]{1,9}")


class Page(NamedTuple):
    """Concepts by id."""

    concepts: list[Concept]
    next: str | None
    """The cursor of what follows, None where nothing does."""


def find_concepts(
    dictionary: Dictionary,
    *,
    q: str | None = None,
    status: str | None = None,
    limit: int = DEFAULT,
    cursor: str | None = None,
) -> Page:
    """A page of the concepts whose label contains `q`, in any case, and whose status is `status`.

    Looks at every concept where few fit: work for a thread. Raises `RequestError` for a limit or a
    cursor that cannot be used.
    """
    if not 1 <= limit <= MOST:
        raise RequestError(f"`limit` must be from 1 to {MOST}, got {limit}")
    start = 0 if cursor is None else check_cursor(dictionary, cursor)
    found = list(islice(_matching(dictionary, start, q, status), limit + 1))
    if len(found) <= limit:
        return Page(found, None)
    return Page(found[:limit], _cursor(dictionary, found[limit].id))


def concept_at(dictionary: Dictionary, id_: str) -> Concept:
    """The concept with this id, in decimal. Raises `UnknownConceptError`."""
    if not _ID.fullmatch(id_) or int(id_) >= len(dictionary.concepts):
        raise UnknownConceptError(
            f"{id_[:64]!r} is no concept of {dictionary.title}; its concepts are 0 to "
            f"{len(dictionary.concepts) - 1}"
        )
    return dictionary.concepts[int(id_)]


def check_cursor(dictionary: Dictionary, cursor: str) -> int:
    """The id that a page starts with. Raises `RequestError`."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        text = ""
    match = _CURSOR.fullmatch(text)
    if match is None:
        raise RequestError(
            f"`cursor` must be the `next` of the page before, got {cursor[:64]!r}; leave it out to "
            "start again"
        )
    if match[1] != dictionary.encoder.artifact.digest[:16]:
        raise RequestError(
            f"`cursor` is from another dictionary or version than {dictionary.title}; leave it out "
            "to start again"
        )
    return int(match[2])


def _cursor(dictionary: Dictionary, start: int) -> str:
    text = f"{dictionary.encoder.artifact.digest[:16]}:{start}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _matching(
    dictionary: Dictionary, start: int, q: str | None, status: str | None
) -> Iterator[Concept]:
    wanted = "" if q is None else q.casefold()
    for concept in islice(dictionary.concepts, start, None):
        if status is not None and concept.status != status:
            continue
        if wanted and (concept.label is None or wanted not in concept.label.casefold()):
            continue
        yield concept
