"""Cards, searches and changes of concepts as koine.v1's messages; makes none of the changes."""

from __future__ import annotations

from typing import Any, cast, get_args

from google.protobuf.json_format import ParseDict

from koine.concepts import Status
from koine.errors import RequestError
from koine.labels import Edit
from koine.proto.koine.v1 import concepts_pb2 as pb
from service.cards import Card, card_json
from service.concepts import DEFAULT, Query

_STATUSES: tuple[Status, ...] = get_args(Status)


def read_query(request: pb.ListConceptsRequest) -> Query:
    """What is asked of the list; an empty field is one that was not set."""
    return Query(
        q=request.q or None,
        evidence=request.evidence,
        status=request.status or None,
        stream=_optional(request, "stream"),
        min_rate=_optional(request, "min_rate"),
        min_score=_optional(request, "min_score"),
        sort=cast("Any", request.sort or "id"),  # `find_concepts` checks it
        limit=request.limit or DEFAULT,
        cursor=request.cursor or None,
    )


def read_edit(id_: int, request: pb.UpdateConceptRequest) -> Edit:
    """The change that is asked for. Raises `RequestError`."""
    if request.status not in _STATUSES:
        raise RequestError(
            f"`status` must be one of {', '.join(_STATUSES)}, got {request.status[:64]!r}"
        )
    return Edit(
        concept=id_,
        status=request.status,
        label=_optional(request, "label"),
        reason=_optional(request, "reason"),
    )


def card_message(card: Card) -> pb.ConceptCard:
    """The card, field for field as JSON has it; what is null there is absent."""
    return ParseDict(_without_nulls(card_json(card)), pb.ConceptCard())


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return {name: _without_nulls(each) for name, each in fields.items() if each is not None}
    if isinstance(value, list):
        return [_without_nulls(each) for each in cast("list[Any]", value)]
    return value


def _optional(request: pb.ListConceptsRequest | pb.UpdateConceptRequest, field: str) -> Any:
    return getattr(request, field) if request.HasField(cast("Any", field)) else None
