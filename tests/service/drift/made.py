"""Made traffic whose truth is known, as the service's processes would have counted it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

import numpy as np

from koine.codes import PAD, Codes
from koine.drift.tally import Tally, tally_bytes
from service.counting.buckets import Bucket, Buckets
from service.drift.references import Watched
from service.settings import Settings

C, K = 60, 6
DIGEST, TITLE = "d" * 64, "demo@1"
STREAMS = ("a", "b")
WINDOW_S, BUCKET_S, GRACE_S = 600, 60, 30
START = 1_000_200
"""Where a window begins."""
SETTINGS = Settings(
    drift_window_s=WINDOW_S,
    drift_bucket_s=BUCKET_S,
    drift_grace_s=GRACE_S,
    drift_learn_items=1000,
)
T = TypeVar("T")


def made(items: int, seed: int, times: Mapping[int, float] | None = None) -> Tally:
    """Items of 25 clients; `times` says how much more often some concepts are active."""
    rng = np.random.default_rng(seed)
    rates_C = np.linspace(0.01, 0.12, C)
    for concept, factor in (times or {}).items():
        rates_C[concept] *= factor
    group_N = rng.integers(0, 25, items)
    fires_NC = rng.random((items, C)) < rates_C
    codes = {name: _codes(fires_NC, rng) for name in STREAMS}
    rows = {name: np.arange(items) for name in STREAMS}
    return Tally.of(TITLE, codes, rows, group_N, C)


def _codes(fires_NC: np.ndarray, rng: np.random.Generator) -> Codes:
    """Each stream misses a tenth of what there is."""
    seen_NC = fires_NC & (rng.random(fires_NC.shape) < 0.9)
    indices_NK = np.full((len(seen_NC), K), PAD, np.int32)
    for n, active in enumerate(seen_NC):
        found = np.flatnonzero(active)[:K]
        indices_NK[n, : len(found)] = found
    values_NK = (indices_NK != PAD).astype(np.float32)
    return Codes(indices_NK, values_NK, rng.normal(0.4, 0.05, len(seen_NC)).astype(np.float32))


WATCHED = Watched(DIGEST, TITLE, {7: "dog", 9: "night"}, made(4000, 0).profile())


async def count(
    buckets: Buckets,
    window: int,
    *,
    items: int = 120,
    times: Mapping[int, float] | None = None,
    segment: str = "",
) -> None:
    """Fills the buckets of the window of this number from `START`."""
    for n in range(WINDOW_S // BUCKET_S):
        at = START + window * WINDOW_S + n * BUCKET_S
        tally = made(items, 1000 * window + 10 * n + 1, times)
        await buckets.put({Bucket(DIGEST, segment, at): tally_bytes(tally)})


def ended(window: int) -> float:
    """When the window of this number is due."""
    return float(START + (window + 1) * WINDOW_S + GRACE_S)


def run(work: Awaitable[T]) -> T:
    """In an event loop of its own."""

    async def main() -> Any:
        return await work

    return asyncio.run(main())
