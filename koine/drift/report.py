"""A comparison as text for a terminal and as JSON for programs; judges nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from koine.drift.compare import Comparison
from koine.drift.verdict import ChangedConcept, Verdict
from koine.drift.words import changed_pair, interval, percent, sentence

SCHEMA = "koine.drift/1"
_WHERE = {
    "nowhere": "nothing changed beyond chance",
    "world": "the streams changed alike: the inputs are different ones",
    "unclear": "it cannot be told whether the inputs changed or one stream alone",
}


def as_text(found: Comparison, labels: Mapping[int, str], most: int) -> str:
    """Every stream's verdict with a table of its concepts."""
    return "\n".join(_lines(found, labels, most))


def as_json(found: Comparison, labels: Mapping[int, str]) -> str:
    """All that was found, as a file."""
    report = as_dict(found, labels)
    return json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_dict(found: Comparison, labels: Mapping[int, str]) -> dict[str, Any]:
    """All that was found; numbers that are none, or endless, are None."""
    streams = {name: _verdict_json(verdict, labels) for name, verdict in found.streams.items()}
    agreement = {pair: _clean(one._asdict()) for pair, one in found.agreement.items()}
    return {
        "schema": SCHEMA,
        "where": found.where,
        "only": found.only,
        "streams": streams,
        "agreement": agreement,
    }


def _lines(found: Comparison, labels: Mapping[int, str], most: int) -> Iterator[str]:
    if found.where == "stream":
        yield f"stream {found.only} alone changed: its encoder or what it is sent, not the world"
    elif any(v.state in ("ok", "drift") for v in found.streams.values()):
        yield _WHERE[found.where]
    for name, verdict in found.streams.items():
        yield f"{name}: {verdict.state}; {sentence(verdict, labels)}"
        for one in verdict.concepts[:most]:
            yield "  " + _row(one, labels)
        if len(verdict.concepts) > most:
            yield f"  and {len(verdict.concepts) - most} more"
        for pair in verdict.pairs[:most]:
            yield "  " + changed_pair(pair, labels)
    for pair, one in found.agreement.items():
        says = "changed" if one.drifted else "as before"
        yield f"{pair}: agreement {one.then:.3f} → {one.now:.3f}, {says}"


def _row(one: ChangedConcept, labels: Mapping[int, str]) -> str:
    name = labels.get(one.id, "")
    rates = f"{percent(one.rate_then)} → {percent(one.rate_now)}"
    return f"{one.id:6} {name:24.24} {one.kind:8} {rates:20} {interval(one)}"


def _verdict_json(verdict: Verdict, labels: Mapping[int, str]) -> dict[str, Any]:
    concepts = [_clean({"label": labels.get(one.id), **one._asdict()}) for one in verdict.concepts]
    return {
        "state": verdict.state,
        "says": sentence(verdict, labels),
        **_clean({"items": verdict.items, "blocks": verdict.blocks, "tested": verdict.tested}),
        **_clean({"dispersion": verdict.dispersion}),
        "concepts": concepts,
        "pairs": [
            _clean({"label_a": labels.get(one.a), "label_b": labels.get(one.b), **one._asdict()})
            for one in verdict.pairs
        ],
        "statistics": [_clean(one._asdict()) for one in verdict.statistics],
    }


def _clean(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }
