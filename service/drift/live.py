"""What `/v1/drift` tells: the window that still grows, and what was judged before; counts none."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from koine.drift.compare import Comparison, compare
from koine.drift.report import as_dict
from koine.drift.segments import ALL
from koine.errors import DriftError, RequestError
from service.counting import Counting, Window
from service.dictionary import Dictionary
from service.drift.history import History
from service.drift.records import CONFIG, concept_href, heading, record_digest, record_of
from service.drift.references import Reference, References, Watched, profile_of_window
from service.settings import PREFIX, Settings


class Live:
    """Answers about the traffic of one service."""

    def __init__(self, settings: Settings, counting: Counting, history: History) -> None:
        self._settings, self._counting, self._history = settings, counting, history
        self._references = References(settings, history)

    async def verdict(
        self, dictionary: Dictionary, window_s: int | None, segment: str, history: int
    ) -> dict[str, Any]:
        """The verdict on the last `window_s` seconds, and on as many judged windows as asked.

        Raises `DriftError` where the counts cannot be had, `RequestError` for too long a window.
        """
        watched = watched_of(dictionary)
        window, reference = await self._read(watched, window_s, segment)
        try:
            judged = await self._history.latest(watched.digest, segment, history)
        except OSError as error:
            raise _unread(error) from error
        told = await asyncio.to_thread(_told, watched, window, reference)
        return {
            **heading(watched, segment, window, reference),
            **told,
            "history": [
                {"report": record_digest(content), **record_of(content)}
                for content in reversed(judged)
            ],
        }

    async def concepts(
        self,
        dictionary: Dictionary,
        stream: str | None,
        window_s: int | None,
        segment: str,
        limit: int,
    ) -> dict[str, Any]:
        """Every concept that was tested in the last `window_s` seconds, the surest change first.

        Raises as `verdict` does, and `UnknownStreamError`.
        """
        watched = watched_of(dictionary)
        dictionary.check_streams([stream] if stream is not None else None)
        window, reference = await self._read(watched, window_s, segment)
        table = partial(_table, watched, window, reference, stream, limit)
        return {
            "dictionary": watched.title,
            "segment": segment,
            "from": window.start,
            "to": window.end,
            "streams": await asyncio.to_thread(table),
        }

    async def _read(
        self, watched: Watched, window_s: int | None, segment: str
    ) -> tuple[Window, Reference]:
        seconds = self._settings.drift_window_s if window_s is None else window_s
        if seconds > self._settings.drift_keep_s:
            raise RequestError(
                f"counts are kept for {self._settings.drift_keep_s} s, got a window of {seconds}; "
                f"ask for less, or set {PREFIX}DRIFT_KEEP_S"
            )
        try:
            window = await self._counting.window(watched.digest, seconds, segment)
            if segment != ALL and window.profile is None:
                watching = sorted(await self._counting.buckets.segments(watched.digest))
                if segment not in watching:
                    raise RequestError(
                        f"{segment!r} is no segment that is watched; there are "
                        f"{', '.join(watching) or 'none'}"
                    )
            return window, await self._references.of(watched, segment)
        except OSError as error:
            raise _unread(error) from error


def watched_of(dictionary: Dictionary) -> Watched:
    """What judging needs of a dictionary that is served."""
    return Watched(dictionary.digest, dictionary.title, dictionary.labels, dictionary.profile)


def _unread(error: OSError) -> DriftError:
    return DriftError(f"the counts cannot be read now: {error}; try again later")


def _found(watched: Watched, window: Window, reference: Reference) -> Comparison:
    return compare(reference.profile, profile_of_window(watched, window), CONFIG)


def _told(watched: Watched, window: Window, reference: Reference) -> Mapping[str, Any]:
    told = as_dict(_found(watched, window, reference), watched.labels)
    for stream in told["streams"].values():
        for one in stream["concepts"]:
            one["href"] = concept_href(watched, one["id"])
    return told


def _table(
    watched: Watched, window: Window, reference: Reference, stream: str | None, limit: int
) -> dict[str, Any]:
    found = _found(watched, window, reference)
    return {
        name: {
            "state": verdict.state,
            "tested": verdict.tested,
            "concepts": _rows(found, name, watched.labels, limit),
        }
        for name, verdict in found.streams.items()
        if stream in (None, name)
    }


def _rows(
    found: Comparison, stream: str, labels: Mapping[int, str], limit: int
) -> list[dict[str, Any]]:
    changes = found.streams[stream].changes
    if changes is None:
        return []
    tested = np.flatnonzero(changes.tested_C)
    order = tested[np.lexsort((changes.p_C[tested], changes.q_C[tested]))][:limit]
    return [
        {
            "id": c,
            "label": labels.get(c),
            "changed": bool(changes.changed_C[c]),
            "ratio": float(changes.ratio_C[c]),
            "low": float(changes.low_C[c]),
            "high": float(changes.high_C[c]) if np.isfinite(changes.high_C[c]) else None,
            "rate_then": float(changes.rate_then_C[c]),
            "rate_now": float(changes.rate_now_C[c]),
            "p": float(changes.p_C[c]),
            "q": float(changes.q_C[c]),
            "dispersion": float(changes.dispersion_C[c]),
        }
        for c in order.tolist()
    ]
