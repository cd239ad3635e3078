"""What was sent equals what `/metrics` says was: requests, items, batches, and empty queues."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.entry import Entry, entry
from benchmarks.serving import samples as made
from benchmarks.serving.artifacts import built
from benchmarks.serving.clients import HttpClient
from benchmarks.serving.figures import share_of
from benchmarks.serving.load import Request, closed_loop, drive
from benchmarks.serving.samples import Sample
from benchmarks.serving.server import Server, serving

REQUESTS, CLIENTS, WORKERS = 2000, 16, (1, 3)
_SETTLED_WITHIN_S = 5.0
_REQUESTS = 'koine_requests_total{outcome="ok",route="/v1/encode"}'


class Count(NamedTuple):
    """One thing that was counted, and what it must be."""

    name: str
    counted: float
    sent: float


def entries(
    requests: int = REQUESTS,
    workers: Sequence[int] = WORKERS,
    artifact: Path | None = None,
    streams: Sequence[str] = ("small_image",),
) -> list[Entry]:
    """For each number of workers the worst of all counts."""
    path = artifact or built("small")
    samples = [*made.images(30, 64, 48), *made.broken_images(5)]
    bodies = made.mixed_requests(samples, requests, most_items=5, seed=0)
    found: list[Entry] = []
    for count in workers:
        # one core would do, but three workers on it take long to start
        with serving(path, workers=count, core=None) as server:
            counts = counted(server, samples, bodies, streams)
        worst = min(counts, key=lambda one: share_of(one.counted, one.sent))
        print("; ".join(f"{c.name} {c.counted:g} of {c.sent:g}" for c in counts), flush=True)
        found.append(
            entry(
                f"counters_workers{count}",
                worst.counted,
                worst.sent,
                ratio=share_of(worst.counted, worst.sent),
                target=1.0,
                unit=f"{worst.name}, the worst of {len(counts)} counts",
            )
        )
    return found


def counted(
    server: Server, samples: Sequence[Sample], bodies: Sequence[Request], streams: Sequence[str]
) -> list[Count]:
    """Sends every body once and compares the growth of each counter; `streams` read images."""
    before = server.metrics()
    loop = partial(closed_loop, requests=bodies, clients=CLIENTS, seconds=3600, total=len(bodies))
    drive(partial(HttpClient, server.url), loop)
    _wait_for_rest(server)
    after = server.metrics()
    sent = [samples[at].broken for body in bodies for at in body.samples]
    good, broken = sent.count(False), sent.count(True)

    def grown(name: str) -> float:
        return after.get(name, 0.0) - before.get(name, 0.0)

    items = 'koine_items_total{{modality="image",outcome="{}"}}'
    counts = [
        Count("requests", grown(_REQUESTS), len(bodies)),
        Count("good items", grown(items.format("ok")), good),
        Count("broken items", grown(items.format("error")), broken),
        Count("items in the heads' batches",
              grown('koine_batch_items_sum{queue="dictionary-heads"}'), good),
        Count("requests in flight", after["koine_inflight_requests"], 0),
    ]  # fmt: skip
    for name in streams:
        batches = grown(f'koine_batch_items_sum{{queue="{name}"}}')
        counts.append(Count(f"items in batches of {name}", batches, good))
    counts += [Count(name, value, 0) for name, value in queues(after).items()]
    return counts


def queues(metrics: Mapping[str, float]) -> dict[str, float]:
    """Items that wait, by queue."""
    return {n: value for n, value in metrics.items() if n.startswith("koine_queue_items{")}


def _wait_for_rest(server: Server) -> None:
    """The last answer leaves a moment before its request is counted."""
    deadline = time.monotonic() + _SETTLED_WITHIN_S
    while server.metrics()["koine_inflight_requests"] and time.monotonic() < deadline:
        time.sleep(0.05)
