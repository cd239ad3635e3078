"""Sends items at a given rate, whatever the service does; draws them by the drift of the moment."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx
import numpy as np

from monitoring.replay.corpus import Corpus, Item
from monitoring.replay.drifts import QUIET, Degraded, Drift, outside, weights

MOST_UNDER_WAY = 64
"""Requests that may wait for their answer; more are left out and counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is sent, and when."""

    rate: float = 20.0
    """Items a second."""
    seconds: float = 60.0
    """How long."""
    batch: int = 4
    """Items of one request."""
    drift: Drift = QUIET
    """What is done to items…"""
    begins: float = 0.0
    """…from this second on…"""
    ends: float = float("inf")
    """…until this one."""
    keys: tuple[str, ...] = ()
    """Secrets of the clients that take turns; without any they have no name."""
    segments: tuple[str, ...] = ()
    """Values of the header `Koine-Segment` that requests take in turns."""
    texts: bool = True
    """Whether an image's caption goes with it."""
    seed: int = 0
    """Of what is drawn."""

    def drift_at(self, second: float) -> Drift:
        """What is done then."""
        return self.drift if self.begins <= second < self.ends else QUIET


class Sent(NamedTuple):
    """What came of it."""

    items: int
    """Answered with codes."""
    refused: Counter[str]
    """Requests that were not answered, by status or error."""
    late: int
    """Requests that were left out because too many were under way."""

    def __str__(self) -> str:
        lost = ", ".join(f"{count} × {why}" for why, count in sorted(self.refused.items()))
        return (
            f"{self.items:,} items answered"
            + (f"; requests without answer: {lost}" if lost else "")
            + (f"; {self.late:,} requests left out: the service is too slow" if self.late else "")
        )


class Replay:
    """One plan against one service; `run` it in an event loop."""

    def __init__(
        self, url: str, corpus: Corpus, plan: Plan, degraded: Degraded | None = None
    ) -> None:
        """Raises `RequestError` for a drift that the corpus cannot show."""
        self._url, self._corpus, self._plan, self._degraded = url, corpus, plan, degraded
        self._rng = np.random.default_rng(plan.seed)
        self._weights = {drift: weights(corpus, drift) for drift in {QUIET, plan.drift}}
        self._items, self._late = 0, 0
        self._refused: Counter[str] = Counter()

    async def run(
        self, tell: Callable[[str], None] = lambda _: None, stop: asyncio.Event | None = None
    ) -> Sent:
        """Until the plan's end, or `stop`; `tell` hears when drift begins and ends."""
        plan, began, before = self._plan, time.monotonic(), QUIET
        turns = itertools.cycle(itertools.product(plan.segments or (None,), plan.keys or (None,)))
        under_way: set[asyncio.Task[None]] = set()
        async with httpx.AsyncClient(base_url=self._url, timeout=30) as client:
            for number in itertools.count():
                due = number * plan.batch / plan.rate
                if due >= plan.seconds or (stop is not None and stop.is_set()):
                    break
                await asyncio.sleep(max(0.0, began + due - time.monotonic()))
                drift = plan.drift_at(due)
                if drift != before:
                    tell("drift begins" if drift != QUIET else "drift ends")
                    before = drift
                segment, key = next(turns)
                if len(under_way) >= MOST_UNDER_WAY:
                    self._late += 1
                    continue
                body = await asyncio.to_thread(self._body, drift)
                task = asyncio.create_task(self._send(client, body, segment, key))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            await asyncio.gather(*under_way)
        return Sent(self._items, self._refused, self._late)

    async def _send(
        self, client: httpx.AsyncClient, body: dict[str, Any], segment: str | None, key: str | None
    ) -> None:
        headers = {"Koine-Segment": segment} if segment else {}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        try:
            answer = await client.post("/v1/encode", json=body, headers=headers)
        except httpx.HTTPError as error:
            self._refused[type(error).__name__] += 1
            return
        if answer.status_code != 200:
            self._refused[str(answer.status_code)] += 1
            return
        self._items += sum("codes" in result for result in answer.json()["results"])

    def _body(self, drift: Drift) -> dict[str, Any]:
        places: Sequence[int] = self._rng.choice(
            len(self._corpus), self._plan.batch, p=self._weights[drift]
        ).tolist()
        return {"inputs": [self._input(place, drift) for place in places]}

    def _input(self, place: int, drift: Drift) -> dict[str, Any]:
        item = self._corpus.item(place, self._rng)
        if drift.outside:
            item = outside(item, self._rng)
        return {**self._written(item), **self._spoilt(item, drift)}

    def _written(self, item: Item) -> dict[str, Any]:
        sent: dict[str, Any] = {"image": base64.b64encode(item.image).decode()}
        if self._plan.texts and item.caption is not None:
            sent["text"] = item.caption
        return sent

    def _spoilt(self, item: Item, drift: Drift) -> dict[str, Any]:
        if not drift.streams or self._degraded is None:
            return {}
        return {"activations": self._degraded.of(item.image)}


async def verdict(url: str, window_s: int, key: str | None = None) -> dict[str, Any]:
    """What `/v1/drift` says of the last seconds; empty where it says nothing."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(base_url=url, timeout=30, headers=headers) as client:
        with contextlib.suppress(httpx.HTTPError, ValueError):
            answer = await client.get("/v1/drift", params={"window_s": window_s})
            if answer.status_code == 200:
                return answer.json()
    return {}
