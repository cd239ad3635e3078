"""Every logger of the process to one handler: JSON lines or text, a record on a line of its own.

BentoML gives handlers of their own to `bentoml`, `uvicorn.error`, `circus` and the root, in the
parent and in each worker, before it imports the service: importing is when this takes over.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Literal, NoReturn, TextIO, cast

from service.telemetry import access, audit, lines
from service.telemetry.formats import JsonFormatter, TextFormatter

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

SPARSE = "opentelemetry."
SPARSE_S = 60.0
"""A collector that is down is told this often, not for each batch of spans."""

log = logging.getLogger(__name__)


class LineHandler(logging.Handler):
    """Hands formatted records to the process's line writer; nothing it meets raises or prints."""

    def __init__(self, writer: lines.LineWriter) -> None:
        super().__init__()
        self._writer = writer
        writer.notice = self._notice
        self.addFilter(_Sparse())

    def handle(self, record: logging.LogRecord) -> bool:
        """Writes the record; one that cannot be formatted is told by its logger's name."""
        try:  # around the filters too, which read the message
            return super().handle(record)
        except Exception:  # a log line must not fail what it tells of
            message = "a log record could not be formatted"
            self.emit(logging.LogRecord(record.name, logging.ERROR, "", 0, message, (), None))
            return True

    def emit(self, record: logging.LogRecord) -> None:
        """Hands the line over. Raises what formatting raises, to `handle`."""
        self._writer.put(self.format(record))

    def _notice(self, lost: int) -> str:
        message = f"{lost} lines of the log could not be written and are lost"
        return self.format(logging.LogRecord(__name__, logging.WARNING, "", 0, message, (), None))


class _Sparse(logging.Filter):
    """Lets one record a minute of each of OpenTelemetry's loggers and levels through."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is written."""
        if not record.name.startswith(SPARSE):
            return True
        now, what = time.monotonic(), (record.name, record.levelno)
        if now - self._last.get(what, -SPARSE_S) < SPARSE_S:
            return False
        self._last[what] = now
        return True


def configure(log_format: LogFormat, log_level: LogLevel) -> None:
    """Sends every logger, warning and uncaught error to standard output in this format."""
    level = logging.getLevelNamesMapping()[log_level.upper()]
    root = logging.getLogger()
    named = [logging.getLogger(name) for name in list(root.manager.loggerDict)]
    for logger in [root, *named]:
        logger.disabled = False  # BentoML's configuration silences loggers that were there before
        for handler in [each for each in logger.handlers if _on_console(each)]:
            logger.removeHandler(handler)
            logger.propagate = True
    handler = LineHandler(lines.WRITER)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root.addHandler(handler)
    root.setLevel(max(level, logging.WARNING))
    for name in ("service", "koine"):
        logging.getLogger(name).setLevel(level)
    logging.getLogger("bentoml").setLevel(max(level, logging.INFO))
    logging.getLogger(access.LOGGER).setLevel(logging.INFO)  # its own setting decides
    logging.getLogger(audit.LOGGER).setLevel(logging.INFO)
    logging.captureWarnings(True)
    logging.raiseExceptions = False
    sys.excepthook = _on_uncaught
    threading.excepthook = _on_uncaught_in_thread
    sys.unraisablehook = _on_unraisable


def asked_format(environment: Mapping[str, str] = os.environ) -> LogFormat:
    """The format in the environment, for what is said before the settings have been read."""
    return "json" if environment.get("KOINE_LOG_FORMAT") == "json" else "text"


def stop(reason: str) -> NoReturn:
    """Ends the process with one sentence: a line of the log in JSON, the sentence alone in text."""
    handlers = logging.getLogger().handlers
    if any(isinstance(handler.formatter, JsonFormatter) for handler in handlers):
        log.critical(reason)
        sys.exit(1)
    sys.exit(reason)


def _on_console(handler: logging.Handler) -> bool:
    if isinstance(handler, LineHandler):
        return True
    if type(handler) is not logging.StreamHandler:  # not `isinstance`: files are such, too
        return False
    stream = cast("logging.StreamHandler[TextIO]", handler).stream
    return stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)


def _on_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        log.info("interrupted")
        return
    log.critical("an uncaught error ends the process", exc_info=(kind, error, trace))


def _on_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        log.error(
            "an uncaught error ended the thread `%s`", args.thread.name if args.thread else "?",
            exc_info=args.exc_value,
        )  # fmt: skip


def _on_unraisable(args: sys.UnraisableHookArgs) -> None:
    log.error(args.err_msg or "an error that nobody could catch", exc_info=args.exc_value)
