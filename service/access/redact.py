"""Masks API keys in whatever the process logs; knows neither keys nor requests."""

from __future__ import annotations

import logging
import re

MASK = "[redacted]"
_SECRETS = re.compile(r"(?i:(\bbearer\s+)[^\s'\",;)\]}]+)|koine_[A-Za-z0-9_-]{43,}")


def redact(text: str) -> str:
    """The text without anything that looks like a key or a `Bearer` credential."""
    return _SECRETS.sub(lambda found: f"{found[1] or ''}{MASK}", text)


class Redaction(logging.Filter):
    """Masks a record's message and traceback before its handler writes them."""

    _formatter = logging.Formatter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true: what is masked is still written."""
        message = record.getMessage()
        masked = redact(message)
        if masked != message:
            record.msg, record.args = masked, ()
        if record.exc_info and not record.exc_text:
            # formatters take `exc_text` where it stands already
            record.exc_text = self._formatter.formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = redact(record.exc_text)
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        return True


def install() -> None:
    """Puts the filter on each handler that exists now; a second call changes nothing.

    On handlers, since a logger's filters do not see the records of the loggers below it.
    """
    named = [logging.getLogger(name) for name in logging.root.manager.loggerDict]
    for logger in (logging.root, *named):
        for handler in logger.handlers:
            if not any(isinstance(present, Redaction) for present in handler.filters):
                handler.addFilter(Redaction())
    if (last := logging.lastResort) and not last.filters:
        last.addFilter(Redaction())
