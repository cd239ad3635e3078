"""Nothing that looks like a key is ever written to a log."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.access.keys import new_secret
from service.access.redact import Redaction, install, redact

SECRET = new_secret()


@pytest.fixture
def written() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A logger below one whose handler is the one to be covered."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    above = logging.getLogger("tests.redaction")
    above.addHandler(handler)
    above.propagate = False
    install()
    install()
    assert [type(present) for present in handler.filters] == [Redaction]
    yield logging.getLogger("tests.redaction.below"), out
    above.removeHandler(handler)


def test_messages_arguments_and_tracebacks_are_masked(
    written: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, out = written
    logger.warning("key %s in %r", SECRET, {"authorization": f"Bearer {SECRET}"})
    logger.warning(f"{SECRET}")
    logger.warning("%(key)s", {"key": SECRET})
    logger.warning("", stack_info=True)
    try:
        raise ValueError(SECRET)
    except ValueError:
        logger.exception("a fault")
    assert SECRET not in out.getvalue()
    assert out.getvalue().count("[redacted]") >= 4
    assert "Traceback" in out.getvalue()


def test_other_records_are_as_they_were(written: tuple[logging.Logger, io.StringIO]) -> None:
    logger, out = written
    logger.warning("%d of %s, koine_rejected_requests_total", 3, "five")
    assert out.getvalue() == "3 of five, koine_rejected_requests_total\n"


@given(before=st.text(), after=st.text())
def test_whatever_stands_around_it(before: str, after: str) -> None:
    assert SECRET not in redact(f"{before}{SECRET}{after}")
    assert SECRET not in redact(f"{before}Bearer  {SECRET}{after}")


def test_credentials_of_other_kinds_are_masked_too() -> None:
    assert redact("{'authorization': 'bearer a.b-c'}") == "{'authorization': 'bearer [redacted]'}"
