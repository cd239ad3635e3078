"""What counting for drift and the audit log cost the service: goodput with over goodput without.

The same server started with and without, each on the same core, driven in turns. Buckets of one
second make each of the repeated items count anew once a second; the cache is off.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.entry import Entry, entry
from benchmarks.serving import samples as made
from benchmarks.serving.artifacts import WIDE_D
from benchmarks.serving.cases import ACTIVATIONS, DEMO_IMAGE, Case
from benchmarks.serving.efficiency import peak, settled
from benchmarks.serving.figures import in_turns
from benchmarks.serving.load import Request
from benchmarks.serving.server import Server, serving
from koine.audit.signing import write_new_key

SECONDS, ROUNDS, WARM_UP_S = 5.0, 5, 3.0
TARGET = 0.97
CASES = (
    replace(DEMO_IMAGE, samples=lambda: made.images(512, 128, 128)),
    replace(ACTIVATIONS, samples=lambda: made.activations(512, {"wide": WIDE_D})),
)
NEITHER = {"KOINE_DRIFT": "false", "KOINE_CACHE_BYTES": "0"}
COUNTING = NEITHER | {"KOINE_DRIFT": "true", "KOINE_DRIFT_BUCKET_S": "1"}


def entries(seconds: float = SECONDS, rounds: int = ROUNDS) -> list[Entry]:
    """Counting alone, and the audit log beside it, for images and for wide activations."""
    found: list[Entry] = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            key = Path(folder) / "audit.key"
            write_new_key(key)
            log = Path(folder) / "log"
            log.mkdir()
            audited = COUNTING | {"KOINE_AUDIT": str(log), "KOINE_AUDIT_KEY": str(key)}
            found.append(_compared(case, "counting", COUNTING, seconds, rounds))
            found.append(_compared(case, "counting, audit", audited, seconds, rounds))
    return found


def _compared(
    case: Case, name: str, settings: Mapping[str, str], seconds: float, rounds: int
) -> Entry:
    requests = case.requests
    with ExitStack() as stack:
        rates = [
            partial(_rate, case, stack.enter_context(serving(case.artifact(), settings=each)))
            for each in (settings, NEITHER)
        ]
        for rate in rates:
            rate(requests, WARM_UP_S)
        with_it, without = (partial(rate, requests, seconds) for rate in rates)
        found = in_turns(with_it, without, rounds)
    return entry(
        f"{name}, {case.name}",
        found.ours,
        found.baseline,
        ratio=found.ratio,
        target=TARGET,
        unit="items/s",
        spread=found.spread,
    )


def _rate(case: Case, server: Server, requests: Sequence[Request], seconds: float) -> float:
    return settled(peak(partial(case.client, server), requests, case.clients, seconds))
