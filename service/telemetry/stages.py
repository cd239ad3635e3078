"""Where the core reports what it has just measured; costs next to nothing when nobody records."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Literal

from service.telemetry.context import RequestContext, current

Stage = Literal["read", "decode", "answer"]

log = logging.getLogger(__name__)


def stage(name: Stage, start_s: float, end_s: float) -> None:
    """A finished stage of the current request, in `time.perf_counter`'s seconds."""
    request = current()
    if request is not None and request.trace is not None:
        request.trace.stage(name, start_s, end_s)


def forward_pass(
    queue: str,
    items: int,
    waited: Iterable[tuple[RequestContext | None, float]],
    start_s: float,
    end_s: float,
) -> None:
    """A finished forward pass: the stages `queue` and `forward` of each request that shares it.

    `waited`: each request, and since when its items had stood in the queue.
    """
    traced = [
        (request.trace, queued_s)
        for request, queued_s in waited
        if request is not None and request.trace is not None
    ]
    if not traced:
        return
    sharing = list(dict(traced))  # a request may have several parts in one pass
    try:
        link = sharing[0].forward_pass(queue, items, sharing, start_s, end_s)
    except Exception:  # the edge of telemetry: the queue's loop must go on
        log.exception("no span was made of a forward pass")
        return
    for trace, queued_s in traced:
        trace.stage("queue", queued_s, start_s, queue)
    for trace in sharing:
        trace.stage("forward", start_s, end_s, queue, link)
