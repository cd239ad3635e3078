"""A record is one line, whatever stands in it: JSON that parses, text that cannot be forged."""

from __future__ import annotations

import json
import logging
import re
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import telemetry
from service.access.redact import Redaction
from service.telemetry.formats import MOST_CHARS, JsonFormatter, TextFormatter, escaped

FORGED = 'a\n2026-01-01T00:00:00.000Z ERROR forged[1] all is lost\r\x1b[2K\x85\u2028\u202e"}'


def record(message: object, *args: object, **more: Any) -> logging.LogRecord:
    """A record as a logger makes it."""
    made = logging.LogRecord("service.x", logging.INFO, "x.py", 1, message, args, None)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def parsed(line: str) -> dict[str, Any]:
    """The object in a line of JSON."""
    assert line.isascii()
    assert len(line.splitlines()) == 1
    return json.loads(line)


def failure(message: str) -> Any:
    """What `exc_info` holds of an error with this message."""
    try:
        raise ValueError(message)
    except ValueError:
        return sys.exc_info()


def test_json_has_what_is_promised() -> None:
    entry = parsed(JsonFormatter().format(record("%s of %d", "one", 2)))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("time"))
    assert isinstance(entry.pop("pid"), int)
    assert entry == {"level": "INFO", "logger": "service.x", "message": "one of 2"}


def test_a_request_is_told_with_every_record() -> None:
    parent = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    request = telemetry.begin("grpc", "x/Y", [("x-request-id", "abc"), parent])
    entry = parsed(JsonFormatter().format(record("a")))
    text = TextFormatter().format(record("a"))
    telemetry.finish(request, status="OK", outcome="ok")
    assert entry["request_id"] == "abc"
    assert entry["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert text.endswith(" a request_id=abc trace_id=0af7651916cd43dd8448eb211c80319c")


@given(st.text() | st.just(FORGED))
def test_any_message_is_one_json_line(text: str) -> None:
    shown = record(text, fields={"name": text, "message": "overwritten"}, exc_info=failure(text))
    entry = parsed(JsonFormatter().format(shown))
    assert entry["message"] == entry["name"] == text
    assert entry["exception"].startswith("Traceback")


@given(st.text() | st.just(FORGED))
def test_any_message_is_one_text_line(text: str) -> None:
    line = TextFormatter().format(record("%s", text, fields={"name": text}))
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line
    line.encode()


@given(st.text() | st.just(FORGED))
def test_a_traceback_in_text_cannot_pass_for_a_record(text: str) -> None:
    first, *rest = TextFormatter().format(record("x", exc_info=failure(text))).splitlines()
    assert first.endswith(" x")
    assert rest
    assert all(line.startswith("  ") for line in rest)


def test_what_is_readable_stays() -> None:
    assert escaped("Straße, 猫, é") == "Straße, 猫, é"
    assert escaped("a\nb\t\x7f\ud800") == r"a\nb\t\x7f\ud800"


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_long_records_are_cut(formatter: logging.Formatter) -> None:
    line = formatter.format(record("x" * 10**6, exc_info=failure("y" * 10**6)))
    assert len(line) < 3 * MOST_CHARS
    assert "characters cut" in line


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_what_a_filter_has_masked_stays_masked(formatter: logging.Formatter) -> None:
    shown = record("x", exc_info=failure("Bearer abcdef"))
    Redaction().filter(shown)
    assert "abcdef" not in formatter.format(shown)


def test_what_json_does_not_know_is_told_as_text() -> None:
    entry = parsed(JsonFormatter().format(record("x", fields={"path": object, "n": None})))
    assert entry["path"] == "<class 'object'>"
