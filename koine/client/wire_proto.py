"""Calls to gRPC messages and messages to results; opens no channel."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from koine import errors
from koine.client.calls import (
    Call,
    Compare,
    Concepts,
    Encode,
    GetConcept,
    Localize,
    Part,
    Prepared,
    Translate,
    UpdateConcept,
)
from koine.client.errors import Failure, error_of
from koine.client.inputs import Resolved
from koine.client.results import (
    ComparedItem,
    Concept,
    ConceptPage,
    EncodedItem,
    ItemError,
    Localized,
    Pair,
    StreamCodes,
    Timings,
    TranslatedItem,
    Translation,
)
from koine.client.wire_json import card_of
from koine.errors import ClientError, KoineError, OverloadedError
from koine.proto.koine.v1 import concepts_pb2 as pb

_KINDS: dict[str, type[KoineError]] = {
    "INVALID_ARGUMENT": errors.RequestError,
    "NOT_FOUND": errors.UnknownDictionaryError,
    "UNAUTHENTICATED": errors.UnauthorizedError,
    "PERMISSION_DENIED": errors.ForbiddenError,
    "RESOURCE_EXHAUSTED": errors.OverloadedError,
    "FAILED_PRECONDITION": errors.ArtifactError,
    "ABORTED": errors.ConflictError,
    "DEADLINE_EXCEEDED": errors.DeadlineError,
    "UNAVAILABLE": errors.ServiceUnavailableError,
    "INTERNAL": errors.KoineError,
    "UNKNOWN": errors.KoineError,
}
"""What a status means where the service names no type of its own."""
_MODES = {"independent": pb.INDEPENDENT, "joint": pb.JOINT}


class ProtoWire:
    """Messages as koine/proto/koine/v1/concepts.proto has them."""

    has_info = False

    def prepare(self, item: Resolved) -> Prepared:
        """The item as a message."""
        content = pb.Item(
            id=item.id,
            image=item.image,
            text=item.text,
            activations={
                name: pb.Activations(raw=row_D.astype("<f4").tobytes())
                for name, row_D in item.activations.items()
            },
        )
        # its tag and length come on top
        return Prepared(item.id, content, content.ByteSize() + 8)

    def request(self, call: Call) -> tuple[str, Message]:
        """The method of `koine.v1.ConceptService` and its message."""
        if isinstance(call, Concepts):
            message = pb.ListConceptsRequest(
                q=call.q or "",
                status=call.status or "",
                limit=call.limit,
                cursor=call.cursor or "",
                dictionary=call.dictionary,
            )
            return "ListConcepts", message
        if isinstance(call, GetConcept):
            return "GetConcept", pb.GetConceptRequest(id=call.id, dictionary=call.dictionary)
        if isinstance(call, UpdateConcept):
            message = pb.UpdateConceptRequest(
                id=call.id,
                status=call.status,
                label=call.label,
                reason=call.reason,
                etag=call.etag,
                dictionary=call.dictionary,
            )
            return "UpdateConcept", message
        if isinstance(call, Localize):
            message = pb.LocalizeRequest(
                image=call.image,
                concept=call.concept,
                text=call.text,
                stream=call.stream,
                dictionary=call.dictionary,
            )
            return "Localize", message
        if isinstance(call, Encode):
            message = pb.EncodeRequest(
                inputs=[item.content for item in call.items],
                streams=call.streams or (),
                mode=_MODES[call.mode],
                top_k=call.top_k,
                names=call.names,
                dictionary=call.dictionary,
            )
            return "Encode", message
        if isinstance(call, Compare):
            message = pb.CompareRequest(
                inputs=[item.content for item in call.items],
                streams=call.streams or (),
                dictionary=call.dictionary,
            )
            return "Compare", message
        assert isinstance(call, Translate)
        message = pb.TranslateRequest(
            inputs=[item.content for item in call.items], to=call.to, dictionary=call.dictionary
        )
        return "Translate", message

    def read(self, call: Call, message: Any) -> Any:
        """The call's result, or a `Failure`."""
        if isinstance(call, Concepts):
            return ConceptPage(tuple(map(_concept, message.concepts)), message.next or None)
        if isinstance(call, GetConcept | UpdateConcept):
            told = MessageToDict(message, preserving_proto_field_name=True)
            return card_of({"id": 0, "revision": 0, **told})  # zeros are left out
        if isinstance(call, Localize):
            return _localized(message)
        assert isinstance(call, Encode | Compare | Translate)
        if isinstance(call, Encode) and message.HasField("error"):
            error = message.error
            after_s = error.retry_after if error.HasField("retry_after") else None
            told = error_of(error.type, error.detail, after_s)
            return Failure(told, isinstance(told, OverloadedError), after_s)
        if len(message.results) != len(call.items):
            told = f"{len(message.results)} results for {len(call.items)} items"
            return Failure(ClientError(f"the answer has {told}; report it to who runs the service"))
        results = tuple(
            _item(call, item.id, result, message.dictionary or None)
            for item, result in zip(call.items, message.results, strict=True)
        )
        return Part(results, _timings(message) if isinstance(call, Encode) else Timings())


def refusal(code: str, details: str, trailers: Mapping[str, str]) -> Failure:
    """Why a call was refused: a status code's name, its details and trailing metadata."""
    after_s: float | None = None
    try:
        after_s = float(trailers["retry-after-ms"]) / 1000
        after_s = after_s if math.isfinite(after_s) and after_s >= 0 else None
    except (KeyError, ValueError):
        pass
    type_ = trailers.get("koine-error-type", "about:blank")
    retry = code in ("RESOURCE_EXHAUSTED", "UNAVAILABLE")
    if code == "RESOURCE_EXHAUSTED" and "larger than max" in details:
        # gRPC's own limit of messages has the code of an overload, and waiting never helps
        type_, retry = "urn:koine:error:too-large", False
    return Failure(error_of(type_, details, after_s, _KINDS.get(code, ClientError)), retry, after_s)


def _localized(message: Any) -> Localized:
    resolved, grid = message.resolved, message.grid
    left, top, right, bottom = grid.box
    matches = tuple(
        Concept(id=match.concept, label=_optional(match, "label"), value=match.score)
        for match in resolved.matches
    )
    return Localized(
        dictionary=message.dictionary,
        concept=_concept(message.concept),
        by=resolved.by,
        score=_optional(resolved, "score"),
        matches=matches,
        stream=message.stream,
        heat_GG=np.asarray(grid.heat, np.float32).reshape(grid.side, grid.side),
        box=(left, top, right, bottom),
        size=(message.width, message.height),
        overlay=message.overlay,
    )


def _item(call: Call, id_: str, result: Any, title: str | None) -> Any:
    assert isinstance(call, Encode | Compare | Translate)
    if result.HasField("error"):
        error = ItemError(result.error.type, result.error.title, result.error.detail)
        return call.result(id=id_, error=error)
    if isinstance(call, Encode):
        codes = {name: _codes(call, c) for name, c in result.codes.items()}
        return EncodedItem(id=id_, codes=codes, dictionary=title)
    if isinstance(call, Compare):
        pairs = {name: _pair(pair) for name, pair in result.pairs.items()}
        return ComparedItem(id=id_, pairs=pairs, dictionary=title)
    sources = {
        name: Translation(np.asarray(t.activations, np.float32), _optional(t, "expected_fvu"))
        for name, t in getattr(result, "from").items()
    }
    return TranslatedItem(id=id_, sources=sources, dictionary=title)


def _codes(call: Encode, codes: Any) -> StreamCodes:
    fvu = codes.fvu if codes.HasField("fvu") else math.nan
    names = tuple(_optional(name, "label") for name in codes.names) if call.names else None
    indices_K = np.asarray(codes.indices, np.int32)
    return StreamCodes(indices_K, np.asarray(codes.values, np.float32), fvu, names)


def _pair(pair: Any) -> Pair:
    groups = (tuple(map(_concept, group)) for group in (pair.shared, pair.only_a, pair.only_b))
    return Pair(_optional(pair, "jaccard"), *groups)


def _concept(concept: Any) -> Concept:
    return Concept(
        id=concept.id,
        label=_optional(concept, "label"),
        status=concept.status,
        score=_optional(concept, "score"),
        rate=dict(concept.rate),
        value=_optional(concept, "value"),
    )


def _timings(message: Any) -> Timings:
    told = message.timings
    return Timings(*(getattr(told, name) / 1000 for name in Timings._fields))


def _optional(message: Any, field: str) -> Any:
    return getattr(message, field) if message.HasField(field) else None
