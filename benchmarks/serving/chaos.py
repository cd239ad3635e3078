"""Faults under load: every request must end as a right answer or as an error that is told.

Each answer is checked against the precomputed truth of its own input. A connection that breaks
counts as told only under faults that break connections; wrong, partial or mixed-up answers, and
requests that nobody answers, never do. What each fault does stands in `faults.py`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from benchmarks.entry import Entry, entry
from benchmarks.serving import samples as made
from benchmarks.serving.artifacts import Skipped, built
from benchmarks.serving.clients import HttpClient
from benchmarks.serving.faults import FAULTS, Fault
from benchmarks.serving.load import Request, Run, closed_loop, drive, honour
from benchmarks.serving.samples import Sample
from benchmarks.serving.server import serving
from benchmarks.serving.truth import ACCOUNTED, Judge, Truth, Verdict

SECONDS, CLIENTS, MOST_ITEMS = 12.0, 16, 6
FAULT_AT = 0.25
"""The part of the load's time after which the fault begins."""
RECOVERY_S = 30.0
"""Within which the service must answer right again once a fault is over."""
BROKEN: frozenset[Verdict] = frozenset({"refused", "reset", "cut"})


def entries(faults: Sequence[Fault] = FAULTS, seconds: float = SECONDS) -> list[Entry]:
    """For each fault the share of requests that are accounted for."""
    samples = chaos_samples()
    truths = [Truth.of(built(name), samples) for name in ("small", "small-next")]
    requests = made.mixed_requests(samples, 400, most_items=MOST_ITEMS, seed=3)
    found: list[Entry] = []
    for fault in faults:
        try:
            found.append(_under(fault, requests, Judge(truths, requests), seconds))
        except Skipped as reason:
            print(f"skipped {fault.name}: {reason}", flush=True)
    return found


def chaos_samples() -> list[Sample]:
    """Images and activations, all with answers of their own, and broken files."""
    vectors = made.activations(40, {"small_vector": 32})
    return [*made.images(40, 96, 64), *vectors, *made.broken_images(5)]


def _under(fault: Fault, requests: Sequence[Request], judge: Judge, seconds: float) -> Entry:
    with ExitStack() as stack:
        setting = fault.prepare(stack)
        server = stack.enter_context(
            serving(
                setting.artifact,
                workers=fault.workers,
                core=None,
                log=setting.log,
                settings=setting.settings,
            )
        )
        run, told = _loaded(
            partial(HttpClient, server.url),
            requests,
            seconds,
            partial(fault.strike, server, setting),
        )
        if not fault.ends:
            told.extend(_recovery(server.url, requests, judge))
    return _entry(fault, run, judge, told)


def _loaded(
    make: Callable[[], HttpClient],
    requests: Sequence[Request],
    seconds: float,
    strike: Callable[[], None],
) -> tuple[Run, list[str]]:
    """A closed loop, with the fault in a thread beside it; and what went wrong with the fault."""
    told: list[str] = []

    def strike_late() -> None:
        over.wait(seconds * FAULT_AT)
        try:
            strike()
        except Exception as error:  # the edge of the thread: the entry must fail, not hang
            told.append(f"{type(error).__name__}: {error}")

    over = threading.Event()
    thread = threading.Thread(target=strike_late)
    thread.start()
    loop = partial(closed_loop, requests=requests, clients=CLIENTS, seconds=seconds, retry=honour)
    try:
        run = drive(make, loop)
    finally:
        over.set()
        thread.join()
    return run, told


def _recovery(url: str, requests: Sequence[Request], judge: Judge) -> list[str]:
    """Why the service does not answer right once the fault is over; nothing where it does."""

    async def ask() -> list[str]:
        client = HttpClient(url, timeout_s=10)
        verdicts: Counter[Verdict] = Counter()
        try:
            deadline = time.monotonic() + RECOVERY_S
            while time.monotonic() < deadline:
                number = verdicts.total() % len(requests)
                verdict = judge.verdict(number, await client.send(requests[number].body))
                if verdict == "right":
                    return []
                verdicts[verdict] += 1
                await asyncio.sleep(0.2)
        finally:
            await client.close()
        return [f"no right answer within {RECOVERY_S:g} s after the fault: {dict(verdicts)}"]

    return asyncio.run(ask())


def _entry(fault: Fault, run: Run, judge: Judge, told: Sequence[str]) -> Entry:
    verdicts = judge.count(run.outcomes)
    accounted = ACCOUNTED if fault.breaks else ACCOUNTED - BROKEN
    fine = sum(count for verdict, count in verdicts.items() if verdict in accounted)
    sent = len(run.outcomes)
    if not verdicts["right"]:
        told = [*told, "not one right answer"]
    print(f"chaos {fault.name}: {dict(verdicts)}; answered by {dict(judge.titles(run.outcomes))}"
          + "".join(f"; {reason}" for reason in told), flush=True)  # fmt: skip
    return entry(
        f"chaos_{fault.name}",
        fine,
        sent,
        ratio=0.0 if told or not sent else fine / sent,
        target=1.0,
        unit=f"requests ({verdicts['right']} right, {sent - fine} unaccounted for)",
    )
