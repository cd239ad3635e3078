"""Progress with rate and ETA: a bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

PLAIN_EVERY_S = 5.0


@runtime_checkable
class Bar(Protocol):
    """What a loop tells of its advance."""

    def advance(self, n: int = 1, note: str = "") -> None:
        """`n` more are done; `note` stands at the line's end."""
        ...


@contextmanager
def progress(total: int | None, what: str, initial: int = 0) -> Iterator[Bar]:
    """Show the advance of `total` units called `what` (None: unknown), `initial` done before."""
    if sys.stderr.isatty():
        with _rich_progress() as shown:
            yield _TerminalBar(shown, shown.add_task(what, total=total, completed=initial, note=""))
    else:
        bar = _PlainBar(total, what, initial)
        yield bar
        bar.finish()


@contextmanager
def silent() -> Iterator[Bar]:
    """Shows nothing: for a worker beside the one that leads."""
    yield _Silent()


class _Silent:
    def advance(self, n: int = 1, note: str = "") -> None:
        pass


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.1f}/s" if task.speed else "-/s")


def _rich_progress() -> Progress:
    from rich.console import Console

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
    )


class _TerminalBar:
    def __init__(self, shown: Progress, task: int) -> None:
        self._shown = shown
        self._task = task

    def advance(self, n: int = 1, note: str = "") -> None:
        fields = {"note": note} if note else {}
        self._shown.update(self._task, advance=n, **fields)  # pyright: ignore[reportArgumentType]


class _PlainBar:
    def __init__(self, total: int | None, what: str, initial: int) -> None:
        self._total, self._what = total, what
        self._initial = self._done = initial
        self._started = self._printed = time.monotonic()

    def advance(self, n: int = 1, note: str = "") -> None:
        self._done += n
        if time.monotonic() - self._printed >= PLAIN_EVERY_S:
            self._print(note)

    def finish(self) -> None:
        self._print("")

    def _print(self, note: str) -> None:
        self._printed = time.monotonic()
        seconds = max(self._printed - self._started, 1e-9)
        rate = (self._done - self._initial) / seconds
        line = f"{self._what}: {self._done:,}"
        if self._total is not None:
            line += f" / {self._total:,}"
        line += f", {rate:,.1f}/s"
        if self._total is not None and rate > 0:
            line += f", ETA {max(0.0, self._total - self._done) / rate:,.0f} s"
        sys.stderr.write(f"{line}{', ' if note else ''}{note}\n")
        sys.stderr.flush()
