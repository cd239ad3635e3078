"""Goodput of the service over what a bare ONNX Runtime loop reaches on the same core.

Same artifact, same files, decoding included; the loop at its best batch size. Both are measured
in turns: the one that is not being measured idles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from benchmarks.entry import Entry, entry
from benchmarks.serving.artifacts import Skipped
from benchmarks.serving.cases import (
    ACTIVATIONS,
    ACTIVATIONS_GRPC,
    DEMO_IMAGE,
    DEMO_IMAGE_ALONE,
    DEMO_TEXT,
    DEMO_TEXT_ALONE,
    VIT,
    Case,
)
from benchmarks.serving.clients import Client
from benchmarks.serving.cores import unit_at
from benchmarks.serving.figures import in_turns
from benchmarks.serving.load import Request, Run, closed_loop, drive
from benchmarks.serving.raw import raw_loop
from benchmarks.serving.server import ServerError, serving

CASES = (
    VIT,
    DEMO_IMAGE,
    DEMO_IMAGE_ALONE,
    DEMO_TEXT,
    DEMO_TEXT_ALONE,
    ACTIVATIONS,
    ACTIVATIONS_GRPC,
)
SECONDS, ROUNDS = 15.0, 7
FIND_BATCH_S, WARM_UP_S = 3.0, 5.0
LEAST_ITEMS = 300
"""Of a run: large batches of a slow encoder would not fit a shorter one evenly."""


def entries(
    cases: Sequence[Case] = CASES, seconds: float = SECONDS, rounds: int = ROUNDS
) -> list[Entry]:
    """One for each case whose artifact is there."""
    found: list[Entry] = []
    for case in cases:
        try:
            found.append(efficiency(case, seconds, rounds))
        except Skipped as reason:
            print(f"skipped {case.name}: {reason}", flush=True)
    return found


def efficiency(case: Case, seconds: float, rounds: int) -> Entry:
    """Items a second of both."""
    requests, shares = case.requests, [0.0]
    with serving(case.artifact(), grpc=case.grpc) as server, raw_loop(case) as raw:

        def ours(seconds: float) -> float:
            run = peak(partial(case.client, server), requests, case.clients, seconds)
            shares.append(run.generator_share)
            return settled(run)

        batch = raw.best_batch(case.batches, min(FIND_BATCH_S, seconds))
        seconds = max(seconds, LEAST_ITEMS / raw.rate(batch, min(FIND_BATCH_S, seconds)).rate)
        ours(min(WARM_UP_S, seconds))
        found = in_turns(partial(ours, seconds), lambda: raw.rate(batch, seconds).rate, rounds)
    unit = f"items/s (loop at batch {batch})"
    return entry(
        f"efficiency_{case.name}",
        found.ours,
        found.baseline,
        ratio=found.ratio,
        target=case.target,
        unit=unit_at(unit, max(shares)),
        spread=found.spread,
    )


def peak(
    make: Callable[[], Client], requests: Sequence[Request], clients: int, seconds: float
) -> Run:
    """A closed loop that keeps the server busy. Raises `ServerError` where an answer is bad."""
    loop = partial(closed_loop, requests=requests, clients=clients, seconds=seconds)
    run = drive(make, loop)
    if bad := [one.reply for one in run.outcomes if not one.reply.good]:
        raise ServerError(f"{len(bad)} of {len(run.outcomes)} requests failed: {bad[0]}")
    return run


def settled(run: Run) -> float:
    """Goodput after the first third, in which queues fill and clients fall out of step."""
    ramp_s = run.seconds / 3
    return run.items_between(ramp_s, run.seconds) / (run.seconds - ramp_s)
