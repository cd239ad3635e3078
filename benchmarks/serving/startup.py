"""From nothing to ready, memory of a worker, and with `--soak MINUTES` its growth under load.

The baseline is a bare process that loads the same graphs and encodes one item.
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial

from benchmarks.entry import Entry, entry
from benchmarks.report import table
from benchmarks.serving.__main__ import REPORT
from benchmarks.serving.cases import SMALL_IMAGE, VIT, Case
from benchmarks.serving.clients import HttpClient
from benchmarks.serving.figures import compared
from benchmarks.serving.load import closed_loop, drive
from benchmarks.serving.memory import status_bytes
from benchmarks.serving.raw import raw_loop
from benchmarks.serving.server import Server, serving

ROUNDS = 5
SOAK_ALLOWED_SHARE = 0.05
"""Of the memory at the start, that an hours-long run may add once caches are full."""
_MIB = 2**20


def entries(case: Case = VIT, rounds: int = ROUNDS) -> list[Entry]:
    """Seconds and memory, side by side with the bare process."""
    seconds: tuple[list[float], list[float]] = ([], [])
    memory: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        with serving(case.artifact()) as server:
            _warm(server, case)
            seconds[0].append(server.ready_after_s)
            memory[0].append(max(worker.memory_info().rss for worker in server.workers) / _MIB)
        begun = time.perf_counter()
        with raw_loop(case) as raw:
            raw.rate(1, 0.0)
            seconds[1].append(time.perf_counter() - begun)
            raw.rate(32, 0.0)
            memory[1].append(status_bytes(raw.memory_pid, "VmRSS") / _MIB)
    return [
        _smaller_is_better(f"startup_seconds_{case.name}", *seconds, unit="s until ready"),
        _smaller_is_better(f"startup_memory_{case.name}", *memory, unit="MiB of one worker"),
    ]


def _warm(server: Server, case: Case) -> None:
    """Enough requests at once that the largest batch has been seen."""
    loop = partial(closed_loop, requests=case.requests, clients=64, seconds=3600, total=128)
    drive(partial(HttpClient, server.url), loop)


def _smaller_is_better(name: str, ours: list[float], bare: list[float], *, unit: str) -> Entry:
    found = compared(bare, ours)
    return entry(
        name,
        statistics.median(ours),
        statistics.median(bare),
        ratio=found.ratio,
        target=None,
        unit=unit,
        spread=found.spread,
    )


def soak(minutes: float, case: Case = SMALL_IMAGE) -> Entry:
    """Growth of memory between the first tenth of the run and its end, under a closed loop."""
    requests = case.requests
    with serving(case.artifact()) as server:
        resident: list[float] = []
        for _ in range(20):
            loop = partial(
                closed_loop, requests=requests, clients=case.clients, seconds=minutes * 60 / 20
            )
            drive(partial(HttpClient, server.url), loop)
            resident.append(server.rss / _MIB)
    start = resident[1]
    grown = max(resident[-1] - start, 0.01)
    allowed = SOAK_ALLOWED_SHARE * start
    return entry(
        f"soak_growth_{case.name}",
        grown,
        allowed,
        ratio=allowed / grown,
        target=1.0,
        unit=f"MiB in {minutes:g} min (allowed)",
    )


def main() -> None:
    """Measure and keep; with `--soak` that alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="measure growth instead")
    given = parser.parse_args()
    found = [soak(given.soak)] if given.soak else entries()
    REPORT.keep(found)
    print(table(found))


if __name__ == "__main__":
    main()
