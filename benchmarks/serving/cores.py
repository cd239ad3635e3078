"""Which core each side of a measurement runs on, and how busy a process was; starts nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

SERVER_CORE, CLIENT_CORE = 0, 1
BUSY = 0.7
"""A generator that takes more of its core than this may measure itself."""


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """This thread, and every process that it starts meanwhile, on one core only.

    None leaves everything as it is, as does a machine without that core or that call.
    """
    if core is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    # a parent on the client's core may still start servers on theirs
    if core < (os.cpu_count() or 1):
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Busy:
    """The share of a core that this process takes from here on."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    @property
    def share(self) -> float:
        """Processor seconds a second."""
        wall = time.perf_counter() - self._wall
        return (time.process_time() - self._cpu) / wall if wall else 0.0


def unit_at(unit: str, share: float) -> str:
    """The unit of an entry, which says so where the generator was too busy."""
    return f"{unit} (generator at {share:.0%} of its core)" if share > BUSY else unit
