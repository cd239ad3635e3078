"""Encode events of a whole request as bytes, without a model for each; records nothing.

A model, its validation and its dump cost an item of a large request more than its codes do. What
is written is what `event_bytes` makes of the same `EncodeEvent`s, to the byte: a test holds both
together, and readers check every event by the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import orjson
from jaxtyping import Float32, Int32, Int64

from koine.audit.events import MICRO
from koine.codes import PAD
from koine.types import Mode


@runtime_checkable
class Row(Protocol):
    """An item's codes in one stream, as in `Codes`: strongest first, pads last."""

    @property
    def indices_K(self) -> Int32[np.ndarray, "K"]:
        """Concepts."""
        ...

    @property
    def values_K(self) -> Float32[np.ndarray, "K"]:
        """Their values."""
        ...


class Encoded(NamedTuple):
    """One item of a request."""

    content: Mapping[str, str]
    """As `EncodeEvent.content`."""
    outcome: str
    rows: Mapping[str, Row]
    """By stream; all of one K."""


def encode_events(
    items: Sequence[Encoded],
    *,
    dictionary: str,
    mode: Mode,
    key: str | None,
    latency_us: int,
    trace: str | None,
    top: int,
) -> list[bytes]:
    """The canonical bytes of an `EncodeEvent` for each item, in order, with its `top` concepts.

    Nothing is validated: names, digests and ids must be such as the model takes.
    """
    opened = f'"dictionary":{_text(dictionary)},'
    opened += "" if key is None else f'"key":{_text(key)},'
    opened += f'"kind":"encode","latency_us":{latency_us},"mode":{_text(mode)},"outcome":'
    closed = "}" if trace is None else f',"trace":{_text(trace)}}}'
    ends = {outcome: f"{opened}{_text(outcome)}{closed}" for outcome in {i.outcome for i in items}}
    rows = [item.rows[name] for item in items for name in sorted(item.rows)]
    concepts = iter(_strongest(rows, top))
    events: list[bytes] = []
    for item in items:
        codes = ",".join([f'"{name}":{next(concepts)}' for name in sorted(item.rows)])
        content = orjson.dumps(item.content, option=orjson.OPT_SORT_KEYS).decode()
        event = f'{{"codes":{{{codes}}},"content":{content},{ends[item.outcome]}'
        events.append(event.encode("ascii"))
    return events


def _strongest(rows: Sequence[Row], top: int) -> list[str]:
    """Of each row a JSON list of its strongest concepts."""
    if not rows:
        return []
    shape = len(rows), -1
    indices_NK = np.concatenate([row.indices_K[:top] for row in rows]).reshape(shape)
    values_NK = np.concatenate([row.values_K[:top] for row in rows]).reshape(shape)
    pairs_NK2 = np.empty((*indices_NK.shape, 2), np.int64)
    pairs_NK2[..., 0] = indices_NK
    pairs_NK2[..., 1] = np.rint(values_NK.astype(np.float64) * MICRO)
    active_N = (indices_NK != PAD).sum(axis=1)
    found = [""] * len(rows)
    for count in np.unique(active_N).tolist():
        own = np.flatnonzero(active_N == count)
        for n, text in zip(own.tolist(), _lists(pairs_NK2[own, :count]), strict=True):
            found[n] = text
    return found


def _lists(pairs_NK2: Int64[np.ndarray, "N K 2"]) -> list[str]:
    if not pairs_NK2.size:
        return ["[]"] * len(pairs_NK2)
    told = orjson.dumps(pairs_NK2, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return [f"[[{each}]]" for each in told[3:-3].split("]],[[")]


def _text(text: str) -> str:
    return orjson.dumps(text).decode()
