"""The concepts of a dictionary, found, sorted and paged; names none, knows no HTTP."""

from __future__ import annotations

import base64
import binascii
import heapq
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast, get_args

from koine.concepts import Concept
from koine.errors import RequestError, UnknownConceptError
from service.dictionary import Dictionary
from service.labels import Labelled

MOST, DEFAULT = 1000, 50
"""Concepts of one page: at most, and where nobody says."""
Sort = Literal["id", "rate", "score"]
SORTS: tuple[Sort, ...] = get_args(Sort)
_ID = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """Which concepts, and in which order."""

    q: str | None = None
    """What the label contains, in any case."""
    evidence: bool = False
    """Whether the terms that were proposed for a concept are searched, too; found by label first.
    """
    status: str | None = None
    stream: str | None = None
    """In which it is active in some reference items; `rate` is then this stream's."""
    min_rate: float | None = None
    """Of `stream`, or of any."""
    min_score: float | None = None
    sort: Sort = "id"
    """`rate` and `score`: the largest first, ties by id, those without one last."""
    limit: int = DEFAULT
    cursor: str | None = None


class Page(NamedTuple):
    """Concepts in the order that was asked for."""

    concepts: list[Concept]
    next: str | None
    """The cursor of what follows, None where nothing does."""
    labelled: Labelled
    """What the page was taken from."""


class _Place(NamedTuple):
    """Where a concept stands in the order; a smaller place comes first."""

    by_evidence: int
    minus: float
    id: int


def find_concepts(dictionary: Dictionary, query: Query) -> Page:
    """A page of the concepts that fit.

    The cursor holds the place of the page's last concept: a label that changes meanwhile moves
    that concept alone. Looks at every concept: work for a thread. Raises `RequestError` for a
    limit, an order or a cursor that cannot be used, `UnknownStreamError`.
    """
    check_query(dictionary, query)
    after = None if query.cursor is None else _place_of(dictionary, query)
    labelled = dictionary.book.labelled
    placed = (
        (place, concept)
        for place, concept in _matching(labelled.concepts, query)
        if after is None or place > after
    )
    found = heapq.nsmallest(query.limit + 1, placed, key=lambda entry: entry[0])
    concepts = [concept for _, concept in found[: query.limit]]
    more = len(found) > query.limit
    return Page(concepts, _cursor(dictionary, query, found[-2][0]) if more else None, labelled)


def check_query(dictionary: Dictionary, query: Query) -> None:
    """Raises `RequestError` and `UnknownStreamError` for what cannot be answered."""
    if not 1 <= query.limit <= MOST:
        raise RequestError(f"`limit` must be from 1 to {MOST}, got {query.limit}")
    if query.sort not in SORTS:
        raise RequestError(f"`sort` must be one of {', '.join(SORTS)}, got {query.sort[:64]!r}")
    if query.stream is not None:
        dictionary.check_streams([query.stream])
    if query.cursor is not None:
        _place_of(dictionary, query)


def concept_at(dictionary: Dictionary, id_: str) -> int:
    """The concept with this id, in decimal. Raises `UnknownConceptError`."""
    if not _ID.fullmatch(id_) or int(id_) >= len(dictionary.concepts):
        raise UnknownConceptError(
            f"{id_[:64]!r} is no concept of {dictionary.title}; its concepts are 0 to "
            f"{len(dictionary.concepts) - 1}"
        )
    return int(id_)


def _place_of(dictionary: Dictionary, query: Query) -> _Place:
    """What the cursor holds. Raises `RequestError`."""
    cursor = query.cursor or ""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        digest, sort, stream, *place = cast("list[Any]", json.loads(text))
        tier, minus, id_ = place
        found = _Place(int(tier), float("inf" if minus is None else minus), int(id_))
        if math.isnan(found.minus):
            raise ValueError
    except (binascii.Error, ValueError, TypeError, OverflowError, RecursionError):
        raise RequestError(
            f"`cursor` must be the `next` of the page before, got {cursor[:64]!r}; leave it out to "
            "start again"
        ) from None
    if digest != dictionary.digest[:16]:
        raise RequestError(
            f"`cursor` is from another dictionary or version than {dictionary.title}; leave it out "
            "to start again"
        )
    if (sort, stream) != (query.sort, query.stream):
        raise RequestError(
            "`cursor` is of another `sort` or `stream`; keep to them, or leave it out to start "
            "again"
        )
    return found


def _cursor(dictionary: Dictionary, query: Query, last: _Place) -> str:
    minus = None if math.isinf(last.minus) else last.minus
    text = json.dumps(
        [dictionary.digest[:16], query.sort, query.stream, last.by_evidence, minus, last.id],
        separators=(",", ":"),
    )
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _matching(concepts: list[Concept], query: Query) -> Iterator[tuple[_Place, Concept]]:
    wanted = (query.q or "").casefold()
    for concept in concepts:
        if query.status is not None and concept.status != query.status:
            continue
        if (
            query.min_score is not None
            and (-math.inf if concept.score is None else concept.score) < query.min_score
        ):
            continue
        rate = _rate(concept, query.stream)
        if query.stream is not None and not rate:
            continue
        if query.min_rate is not None and rate < query.min_rate:
            continue
        by_evidence = _found_by(concept, wanted, query.evidence)
        if by_evidence is None:
            continue
        by = {"id": 0.0, "rate": -rate, "score": math.inf}[query.sort]
        if query.sort == "score" and concept.score is not None:
            by = -concept.score
        yield _Place(by_evidence, by, concept.id), concept


def _found_by(concept: Concept, wanted: str, evidence: bool) -> int | None:
    """0 where the label has the text, 1 where only a term has it, None where neither does."""
    if not wanted or (concept.label is not None and wanted in concept.label.casefold()):
        return 0
    if evidence and any(wanted in each.term.casefold() for each in concept.evidence):
        return 1
    return None


def _rate(concept: Concept, stream: str | None) -> float:
    if stream is not None:
        return concept.rate.get(stream, 0.0)
    return max(concept.rate.values(), default=0.0)
