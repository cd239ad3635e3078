"""One spelling: what is written is what the `rfc8785` package writes."""

from __future__ import annotations

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from koine.audit.canonical import canonical, parsed
from koine.audit.journal import event_bytes
from koine.errors import AuditError
from tests.koine.audit.logs import encoded

KEYS = st.text(st.characters(max_codepoint=127), max_size=8)
LEAVES = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=20)
DATA = st.recursive(
    LEAVES, lambda d: st.lists(d, max_size=4) | st.dictionaries(KEYS, d, max_size=4)
)


@given(DATA)
@settings(deadline=None, max_examples=50)
def test_orjson_writes_rfc_8785_within_our_limits(data: object) -> None:
    assert canonical(data) == rfc8785.dumps(data)  # type: ignore[arg-type]
    assert parsed(canonical(data)) == data


def test_events_are_within_them() -> None:
    event = encoded(3)
    assert event_bytes(event) == rfc8785.dumps(event.model_dump(mode="json", exclude_none=True))


@pytest.mark.parametrize("raw", [b'{"a": 1}', b'{"b":1,"a":2}', b'{"a":1,"a":1}', b'"\\u0041"'])
def test_other_spellings_are_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="canonical"):
        parsed(raw)


@pytest.mark.parametrize("data", [2**53, "\ud800", {1: 2}, {"a": {1}}])
def test_what_has_no_spelling_is_refused(data: object) -> None:
    with pytest.raises(AuditError, match="cannot be written"):
        canonical(data)
