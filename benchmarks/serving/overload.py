"""Twice the load that the service can take: what it still answers, its memory, and its tails.

Eight times as many clients as the queue has places think between answers, for so long that all
together would ask for twice the capacity. Refused with 429, they either wait as Retry-After says,
or send again at once.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from functools import partial

from benchmarks.entry import Entry, entry
from benchmarks.serving.arrivals import schedule
from benchmarks.serving.cases import SMALL_IMAGE, Case
from benchmarks.serving.clients import HttpClient
from benchmarks.serving.cores import unit_at
from benchmarks.serving.efficiency import peak, settled
from benchmarks.serving.figures import in_turns
from benchmarks.serving.load import (
    Request,
    Retry,
    Run,
    closed_loop,
    drive,
    honour,
    insist,
    open_loop,
)
from benchmarks.serving.memory import PeakMemory
from benchmarks.serving.server import Server, serving

SECONDS, ROUNDS = 20.0, 4
QUEUE, CLIENTS = 64, 512
TARGETS = {"honouring": (honour, 0.9), "insisting": (insist, 0.7)}
MEMORY_ALLOWED_MIB = 256.0
"""Growth under overload; about what `KOINE_MAX_INFLIGHT_BYTES` lets in."""
TAIL_ALLOWED, TAIL_LOAD, TAIL_ROUNDS = 3.0, 0.7, 5


def entries(
    case: Case = SMALL_IMAGE, seconds: float = SECONDS, rounds: int = ROUNDS
) -> list[Entry]:
    """Goodput under overload, memory, and the tail at 70 % load."""
    limits = {"KOINE_MAX_QUEUE": str(QUEUE), "KOINE_MAX_ITEMS": str(QUEUE)}
    with serving(case.artifact(), settings=limits) as server:
        requests = case.requests
        _peak(server, requests, seconds / 2)
        capacity = _peak(server, requests, seconds)
        with PeakMemory(server) as memory:
            found = [
                _retained(server, requests, capacity, name, seconds, rounds) for name in TARGETS
            ]
        found.append(_memory(memory.growth))
    with serving(case.artifact()) as server:  # at the usual limits
        _peak(server, requests, seconds / 2)
        found.append(_tail(server, requests, seconds))
    return found


def _peak(server: Server, requests: Sequence[Request], seconds: float) -> float:
    """Items a second of as many clients as keep it busy and are not refused."""
    return settled(peak(partial(HttpClient, server.url), requests, QUEUE // 2, seconds))


def overloaded(
    server: Server, requests: Sequence[Request], capacity: float, retry: Retry, seconds: float
) -> Run:
    """So many clients that they ask for twice the capacity."""
    loop = partial(
        closed_loop,
        requests=requests,
        clients=CLIENTS,
        seconds=seconds,
        think_s=CLIENTS / (2 * capacity),
        retry=retry,
    )
    return drive(partial(HttpClient, server.url), loop)


def _retained(
    server: Server,
    requests: Sequence[Request],
    capacity: float,
    name: str,
    seconds: float,
    rounds: int,
) -> Entry:
    retry, target = TARGETS[name]
    shares, refused = [0.0], [0]

    def under_overload() -> float:
        run = overloaded(server, requests, capacity, retry, seconds)
        shares.append(run.generator_share)
        refused.append(sum(one.reply.status == 429 for one in run.outcomes))
        return settled(run)

    found = in_turns(under_overload, lambda: _peak(server, requests, seconds), rounds)
    return entry(
        f"overload_goodput_{name}",
        found.ours,
        found.baseline,
        ratio=found.ratio,
        target=target,
        unit=unit_at(f"items/s ({sum(refused) // rounds} refusals a run)", max(shares)),
        spread=found.spread,
    )


def _memory(grown_bytes: int) -> Entry:
    grown_mib = max(grown_bytes / 2**20, 1.0)
    return entry(
        "overload_memory",
        grown_mib,
        MEMORY_ALLOWED_MIB,
        ratio=MEMORY_ALLOWED_MIB / grown_mib,
        target=1.0,
        unit="MiB of growth (allowed)",
    )


def _tail(server: Server, requests: Sequence[Request], seconds: float) -> Entry:
    """Capacity is measured beside each run: a shared machine's changes within minutes."""
    tails: list[float] = []
    shares = [0.0]
    for seed in range(TAIL_ROUNDS):
        capacity = _peak(server, requests, seconds)
        due = schedule(TAIL_LOAD * capacity, seconds, seed)
        loop = partial(open_loop, requests=requests, due=due, seconds=seconds)
        run = drive(partial(HttpClient, server.url), loop)
        if run.failed_share:
            print(f"overload: {run.failed_share:.1%} of requests failed at 70 % load", flush=True)
        tails.append(run.latency_s(99) / run.latency_s(50) if not run.failed_share else math.inf)
        shares.append(run.generator_share)
    tail = statistics.median(tails)
    return entry(
        "overload_tail_at_70_percent",
        tail,
        TAIL_ALLOWED,
        ratio=TAIL_ALLOWED / tail,
        target=1.0,
        spread=statistics.pstdev(TAIL_ALLOWED / one for one in tails),
        unit=unit_at("p99/p50 (allowed)", max(shares)),
    )
