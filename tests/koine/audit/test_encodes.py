"""A request's events written at once are, to the byte, what their models would have written."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from koine.audit.encodes import Encoded, encode_events
from koine.audit.events import MICRO, ActiveConcept, EncodeEvent
from koine.audit.journal import event_bytes
from koine.codes import PAD
from koine.streams import STREAM_NAME

DIGESTS = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
STREAMS = st.from_regex(STREAM_NAME, fullmatch=True)
TOP = 3


class Codes(NamedTuple):
    indices_K: np.ndarray
    values_K: np.ndarray


@st.composite
def rows(draw: st.DrawFn, k: int) -> Codes:
    """Strongest first, filled with pads."""
    active = draw(st.integers(0, k))
    values = draw(st.lists(st.floats(0, 1e6, width=32), min_size=active, max_size=active))
    concepts = draw(st.lists(st.integers(0, 2**31 - 1), min_size=active, max_size=active))
    pads = k - active
    return Codes(
        np.array([*concepts, *[PAD] * pads], np.int32),
        np.array([*sorted(values, reverse=True), *[0.0] * pads], np.float32),
    )


@st.composite
def items(draw: st.DrawFn, k: int) -> Encoded:
    parts = st.one_of(st.sampled_from(["image", "text"]), STREAMS.map("activations.{}".format))
    content = draw(st.dictionaries(parts, DIGESTS, max_size=4))
    codes = draw(st.dictionaries(STREAMS, rows(k), max_size=3))
    return Encoded(content, draw(st.sampled_from(["ok", "ImageError"])), codes)


@given(st.data())
def test_the_bytes_are_those_of_the_models(data: st.DataObject) -> None:
    k = data.draw(st.integers(1, 5))
    given_items = data.draw(st.lists(items(k), max_size=5))
    common = {
        "dictionary": data.draw(DIGESTS),
        "mode": data.draw(st.sampled_from(["independent", "joint"])),
        "key": data.draw(st.none() | st.from_regex(r"[0-9a-f]{8}", fullmatch=True)),
        "latency_us": data.draw(st.integers(0, 2**53 - 1)),
        "trace": data.draw(st.none() | st.from_regex(r"[0-9a-f]{32}", fullmatch=True)),
    }
    wanted = [
        EncodeEvent(
            content=dict(item.content), outcome=item.outcome, codes=_strongest(item), **common
        )
        for item in given_items
    ]
    assert encode_events(given_items, **common, top=TOP) == [event_bytes(e) for e in wanted]


def _strongest(item: Encoded) -> dict[str, tuple[ActiveConcept, ...]]:
    return {
        name: tuple(
            ActiveConcept(concept, round(value * MICRO))
            for concept, value in zip(
                row.indices_K[:TOP].tolist(), row.values_K[:TOP].tolist(), strict=True
            )
            if concept != PAD
        )
        for name, row in item.rows.items()
    }
