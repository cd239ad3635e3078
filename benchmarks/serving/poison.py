"""Broken files among good ones: every good item still gets its own right answer, at no cost.

10,000 images, one in a hundred cut, empty, no image at all or a decompression bomb; then bombs
alone, while the kernel keeps the record of the worker's memory.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.entry import Entry, entry
from benchmarks.serving import samples as made
from benchmarks.serving.artifacts import built
from benchmarks.serving.clients import HttpClient
from benchmarks.serving.load import Request, Run, closed_loop, drive, honour
from benchmarks.serving.memory import reset_peak, status_bytes
from benchmarks.serving.photos import bomb
from benchmarks.serving.samples import Sample
from benchmarks.serving.server import Server, serving
from benchmarks.serving.truth import Truth

ITEMS, PER_REQUEST, BROKEN_SHARE = 10_000, 16, 0.01
CLIENTS = 8
BOMB_ALLOWED_MIB = 50.0
BOMBS = 200


def entries(items: int = ITEMS, artifact: Path | None = None) -> list[Entry]:
    """The share of good items with their right answer, and what bombs cost."""
    path = artifact or built("small")
    samples = poisoned_samples()
    truth = Truth.of(path, samples)
    requests = poisoned_requests(samples, items)
    with serving(path) as server:
        run = _send(server, requests)
        right, good, refused, broken = judged(run, truth)
        grown = bomb_cost(server)
    print(f"poison: {broken} broken items, {refused} of them answered with an error", flush=True)
    share = right / good
    grown_mib = max(grown / 2**20, 0.1)
    return [
        entry("poison_good_items_right", right, good, ratio=share, target=1.0, unit="items"),
        entry(
            "poison_broken_items_refused",
            refused,
            broken,
            ratio=refused / broken,
            target=1.0,
            unit="items",
        ),
        entry(
            "poison_bomb_memory",
            grown_mib,
            BOMB_ALLOWED_MIB,
            ratio=BOMB_ALLOWED_MIB / grown_mib,
            target=1.0,
            unit="MiB of growth (allowed)",
        ),
    ]


def poisoned_samples() -> list[Sample]:
    """Good ones first, then broken ones."""
    return [*made.images(64, 64, 48), *made.broken_images(25)]


def poisoned_requests(samples: Sequence[Sample], items: int) -> list[Request]:
    """Requests of 16; which items are broken is drawn, one in a hundred exactly."""
    good = [n for n, sample in enumerate(samples) if not sample.broken]
    bad = [n for n, sample in enumerate(samples) if sample.broken]
    rng = random.Random(0)
    places = rng.choices(good, k=items)
    for at in rng.sample(range(items), max(1, round(items * BROKEN_SHARE))):
        places[at] = rng.choice(bad)
    return [
        made.request(samples, places[begin : begin + PER_REQUEST])
        for begin in range(0, items, PER_REQUEST)
    ]


def _send(server: Server, requests: Sequence[Request]) -> Run:
    loop = partial(
        closed_loop,
        requests=requests,
        clients=CLIENTS,
        seconds=3600,
        total=len(requests),
        retry=honour,
    )
    return drive(partial(HttpClient, server.url), loop)


def judged(run: Run, truth: Truth) -> tuple[int, int, int, int]:
    """Good items answered right, good items, broken items refused, broken items."""
    answered = {one.request: one.reply.body for one in run.good}
    right = good = refused = broken = 0
    for number, request in enumerate(run.requests):
        bad = [truth.expected[at] is None for at in request.samples]
        good, broken = good + bad.count(False), broken + bad.count(True)
        if number not in answered:
            continue
        results = json.loads(answered[number])["results"]
        for at, is_bad, result in zip(request.samples, bad, results, strict=True):
            fine = truth.verdict(at, result) == "right"
            right, refused = right + (fine and not is_bad), refused + (fine and is_bad)
    return right, good, refused, broken


def bomb_cost(server: Server) -> int:
    """Bytes by which the largest of the worker's peaks grows while bombs arrive."""
    samples = [Sample(image=bomb(), broken=True)]
    warm = made.requests(samples, 1)
    _send(server, warm)
    before = {worker.pid: reset_peak(worker.pid) for worker in server.workers}
    _send(server, made.requests(samples, 1, count=BOMBS))
    return max(status_bytes(pid, "VmHWM") - resident for pid, resident in before.items())
