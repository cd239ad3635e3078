"""One line for a request that was answered; never a body, a query or a secret."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from typing import Literal

from service.telemetry.context import Outcome, RequestContext

AccessLog = Literal["off", "errors", "all"]

LOGGER = "koine.access"
log = logging.getLogger(LOGGER)
_policy: AccessLog = "errors"


def configure(policy: AccessLog) -> None:
    """`errors`: requests that failed by the service's own fault, or that it could not take."""
    global _policy
    _policy = policy


def write(request: RequestContext, *, status: str, outcome: Outcome, route: str | None) -> None:
    """The request's line, where the setting wants one."""
    if _policy == "off" or (_policy == "errors" and outcome != "error"):
        return
    seconds = time.perf_counter() - request.started
    fields: dict[str, object] = {
        "protocol": request.protocol,
        "method": request.method,
        "route": route,
        "status": status,
        "outcome": outcome,
        "seconds": round(seconds, 6),
        "items": request.items,
        "dictionary": request.dictionary,
        "key": request.key,
    }
    if request.timings is not None:
        fields["timings"] = {name: round(s, 6) for name, s in asdict(request.timings).items()}
    where = request.method if route is None else f"{request.method} {route}"
    log.info(
        "%s %s in %.1f ms", where, status, seconds * 1000,
        extra={"fields": {name: value for name, value in fields.items() if value is not None}},
    )  # fmt: skip
