"""Calls to HTTP requests and HTTP answers to results; opens no connection."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import numpy as np

from koine.client.calls import (
    Call,
    Compare,
    Concepts,
    Encode,
    GetConcept,
    GetInfo,
    GetReady,
    ItemsCall,
    Localize,
    Part,
    Prepared,
    Translate,
    UpdateConcept,
)
from koine.client.errors import Failure, error_of, of_status
from koine.client.inputs import Resolved
from koine.client.results import (
    ComparedItem,
    Concept,
    ConceptCard,
    ConceptPage,
    EncodedItem,
    Info,
    ItemError,
    LabelChange,
    Localized,
    Pair,
    StreamCodes,
    StreamInfo,
    Timings,
    TranslatedItem,
    Translation,
)
from koine.errors import ClientError

_RETRIED = (429, 502, 503)
"""504 is not: whoever answers it has had the work for as long as we would wait."""
_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
_STAGE = re.compile(r"(\w+);dur=([0-9.]+)")


class HttpRequest(NamedTuple):
    """One request, but for its address and key."""

    method: str
    path: str
    params: dict[str, str]
    body: bytes | None = None
    if_match: str | None = None


class JsonWire:
    """JSON as docs/api.md has it."""

    has_info = True

    def prepare(self, item: Resolved) -> Prepared:
        """The item as a JSON object."""
        fields: dict[str, Any] = {"id": item.id}
        if item.image is not None:
            fields["image"] = base64.b64encode(item.image).decode()
        if item.text is not None:
            fields["text"] = item.text
        if item.activations:
            # a quarter of the bytes of numbers, and five times faster to read
            fields["activations"] = {
                name: base64.b64encode(row_D.astype("<f4").tobytes()).decode()
                for name, row_D in item.activations.items()
            }
        content = _json(fields)
        return Prepared(item.id, content, len(content))

    def request(self, call: Call) -> HttpRequest:
        """How to ask."""
        if isinstance(call, Concepts):
            asked = {"q": call.q, "status": call.status, "limit": str(call.limit)}
            asked |= {"cursor": call.cursor, "dictionary": call.dictionary}
            return HttpRequest("GET", "/v1/concepts", _given(asked))
        if isinstance(call, GetConcept | UpdateConcept):
            return _card_request(call)
        if isinstance(call, GetInfo):
            return HttpRequest("GET", "/v1/info", _given({"dictionary": call.dictionary}))
        if isinstance(call, GetReady):
            return HttpRequest("GET", "/readyz", {})
        if isinstance(call, Localize):
            return HttpRequest("POST", "/v1/localize", {}, _json(_localize_fields(call)))
        path = {Encode: "/v1/encode", Compare: "/v1/compare", Translate: "/v1/translate"}
        options = _json(_options(call))[1:]  # the items are objects already
        items = b",".join(item.content for item in call.items)
        comma = b"," if len(options) > 1 else b""
        return HttpRequest(
            "POST", path[type(call)], {}, b'{"inputs":[%b]%b%b' % (items, comma, options)
        )

    def read(self, call: Call, status: int, headers: Mapping[str, str], body: bytes) -> Any:
        """What came back: the call's result, or a `Failure`."""
        if status != 200:
            return _refusal(status, headers, body)
        try:
            return _result(call, headers, json.loads(body))
        except _UNREADABLE as error:
            kind = headers.get("content-type", "no type")
            reason = f"{type(error).__name__}: {error}"
            return Failure(
                ClientError(
                    f"the answer ({kind}, {len(body)} bytes) is not Koine's ({reason}); check the "
                    "URL, and what stands between client and service"
                )
            )


def _localize_fields(call: Localize) -> dict[str, Any]:
    fields: dict[str, Any] = {"image": base64.b64encode(call.image).decode()}
    fields |= {"concept": call.concept, "text": call.text}
    fields |= {"stream": call.stream, "dictionary": call.dictionary}
    return {name: value for name, value in fields.items() if value is not None}


def _card_request(call: GetConcept | UpdateConcept) -> HttpRequest:
    path, params = f"/v1/concepts/{call.id}", _given({"dictionary": call.dictionary})
    if isinstance(call, GetConcept):
        return HttpRequest("GET", path, params)
    fields = {"status": call.status, "label": call.label, "reason": call.reason}
    return HttpRequest("PATCH", path, params, _json(fields), call.etag)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _given(params: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in params.items() if value is not None}


def _options(call: ItemsCall) -> dict[str, Any]:
    options: dict[str, Any] = {"dictionary": call.dictionary}
    if isinstance(call, Translate):
        options["to"] = call.to
    else:
        options["streams"] = None if call.streams is None else list(call.streams)
    if isinstance(call, Encode):
        options |= {"mode": call.mode, "top_k": call.top_k, "names": call.names}
        options["encoding"] = "packed" if call.packed else "json"
    return {name: value for name, value in options.items() if value is not None}


def _refusal(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    try:
        problem: Any = json.loads(body)
        type_, detail = str(problem["type"]), str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        type_ = "about:blank"
        detail = f"the answer is HTTP {status} without a reason that is Koine's"
        if 300 <= status < 400:
            detail += f"; it points elsewhere: give the service's own URL ({status})"
    after_s = retry_after_s(headers)
    error = error_of(type_, detail, after_s, of_status(status))
    return Failure(error, status in _RETRIED, after_s)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """When the service wants the request again: `Retry-After-Ms` before `Retry-After`."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) / unit
        except (KeyError, ValueError):
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    try:
        then = parsedate_to_datetime(headers["retry-after"])
    except (KeyError, ValueError):
        return None
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(0.0, (then - datetime.now(UTC)).total_seconds())


def _result(call: Call, headers: Mapping[str, str], answer: Any) -> Any:
    if isinstance(call, GetReady):
        return True
    if isinstance(call, GetInfo):
        return _info(answer)
    if isinstance(call, GetConcept | UpdateConcept):
        return card_of(answer)
    if isinstance(call, Concepts):
        return ConceptPage(tuple(map(_concept, answer["concepts"])), answer["next"])
    if isinstance(call, Localize):
        return _localized(answer)
    results: list[Any] = answer["results"]
    if len(results) != len(call.items):
        raise ValueError(f"{len(results)} results for {len(call.items)} items")
    title: str | None = answer.get("dictionary")
    items = tuple(
        _item(call, item.id, result, title)
        for item, result in zip(call.items, results, strict=True)
    )
    return Part(items, timings_of(headers.get("server-timing", "")))


def _item(call: ItemsCall, id_: str, result: Any, title: str | None) -> Any:
    if "error" in result:
        error = result["error"]
        told = ItemError(str(error["type"]), str(error["title"]), str(error["detail"]))
        return call.result(id=id_, error=told)
    if isinstance(call, Encode):
        codes = {name: _codes(call, c) for name, c in result["codes"].items()}
        return EncodedItem(id=id_, codes=codes, dictionary=title)
    if isinstance(call, Compare):
        pairs = {name: _pair(pair) for name, pair in result["pairs"].items()}
        return ComparedItem(id=id_, pairs=pairs, dictionary=title)
    sources = {
        name: Translation(np.asarray(t["activations"], np.float32), _optional(t["expected_fvu"]))
        for name, t in result["from"].items()
    }
    return TranslatedItem(id=id_, sources=sources, dictionary=title)


def _codes(call: Encode, codes: Any) -> StreamCodes:
    names = tuple(codes["names"]) if call.names else None
    fvu = math.nan if codes["fvu"] is None else float(codes["fvu"])
    if call.packed:
        raw = base64.b64decode(codes["packed"], validate=True)
        return StreamCodes(*unpacked(raw, call.num_concepts), fvu, names)
    indices_K = np.asarray(codes["indices"], np.int32)
    values_K = np.asarray(codes["values"], np.float32)
    if indices_K.shape != values_K.shape:
        raise ValueError(f"{len(indices_K)} indices with {len(values_K)} values")
    return StreamCodes(indices_K, values_K, fvu, names)


def unpacked(raw: bytes, num_concepts: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices and values of the active concepts. Raises `ValueError` for an odd length."""
    width = np.dtype("<u4" if num_concepts > 65_536 else "<u2")
    k, odd = divmod(len(raw), width.itemsize + 2)
    if odd:
        raise ValueError(f"{len(raw)} packed bytes for {num_concepts} concepts")
    indices_K = np.frombuffer(raw, width, k)
    values_K = np.frombuffer(raw, "<f2", k, offset=k * width.itemsize)
    active_K = indices_K != np.iinfo(width).max
    return indices_K[active_K].astype(np.int32), values_K[active_K].astype(np.float32)


def _optional(value: Any) -> float | None:
    return None if value is None else float(value)


def _pair(pair: Any) -> Pair:
    groups = (tuple(map(_concept, pair[name])) for name in ("shared", "only_a", "only_b"))
    return Pair(_optional(pair["jaccard"]), *groups)


def _concept(concept: Any) -> Concept:
    rates: dict[str, Any] = concept.get("rate") or {}
    return Concept(
        id=int(concept["id"]),
        label=concept.get("label"),
        status=str(concept.get("status", "unnamed")),
        score=_optional(concept.get("score")),
        rate={name: float(rate) for name, rate in rates.items()},
        value=_optional(concept.get("value")),
    )


def card_of(told: Any) -> ConceptCard:
    """A card from its JSON."""
    return ConceptCard(
        concept=_concept(told),
        dictionary=told["dictionary"],
        etag=told["etag"],
        revision=int(told["revision"]),
        proposed=told.get("proposed"),
        source=told.get("source"),
        purity=dict(told.get("purity", {})),
        evidence=tuple(told.get("evidence", ())),
        nearest=tuple(map(_concept, told.get("nearest", ()))),
        exemplars=tuple(told.get("exemplars", ())),
        history=tuple(map(_change, told.get("history", ()))),
    )


def _localized(answer: Any) -> Localized:
    resolved, grid = answer["resolved"], answer["grid"]
    left, top, right, bottom = map(float, grid["box"])
    matches = tuple(
        Concept(id=int(match["concept"]), label=match["label"], value=float(match["score"]))
        for match in resolved["matches"]
    )
    return Localized(
        dictionary=answer["dictionary"],
        concept=_concept(answer["concept"]),
        by=resolved["by"],
        score=_optional(resolved["score"]),
        matches=matches,
        stream=answer["stream"],
        heat_GG=np.asarray(grid["heat"], np.float32),
        box=(left, top, right, bottom),
        size=(int(answer["width"]), int(answer["height"])),
        overlay=base64.b64decode(answer["overlay"], validate=True),
    )


def _change(told: Any) -> LabelChange:
    before, after = (
        (told[name].get("label"), told[name]["status"]) for name in ("before", "after")
    )
    return LabelChange(
        revision=int(told["revision"]),
        before=before,
        after=after,
        person=told["person"],
        time=told["time"],
        reason=told.get("reason"),
        source=told.get("source"),
        confidence=_optional(told.get("confidence")),
    )


def _info(answer: Any) -> Info:
    streams = tuple(
        StreamInfo(
            s["name"],
            s["modality"],
            int(s["d_in"]),
            tuple(s["accepts"]),
            s["encoder"],
            s["revision"],
        )
        for s in answer["streams"]
    )
    return Info(
        dictionary=answer["dictionary"],
        dictionaries=tuple(answer["dictionaries"]),
        digest=answer["digest"],
        num_concepts=int(answer["num_concepts"]),
        k=int(answer["k"]),
        joint=answer["joint"],
        streams=streams,
        limits=dict(answer["limits"]),
        provider=answer["provider"],
        versions=dict(answer["versions"]),
    )


def timings_of(header: str) -> Timings:
    """Seconds from a `Server-Timing` header; zeros for what it does not tell."""
    told: dict[str, float] = {}
    for name, milliseconds in _STAGE.findall(header):
        if name in Timings._fields and milliseconds.count(".") <= 1 and milliseconds != ".":
            told[name] = float(milliseconds) / 1000
    return Timings(**told)
