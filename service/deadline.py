"""The time that an answer may take; knows no request."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from koine.errors import DeadlineError
from service import metrics


@contextlib.asynccontextmanager
async def within(seconds: float, advice: str) -> AsyncGenerator[None]:
    """Ends what is inside after so long; counts it and raises `DeadlineError` with the advice."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        metrics.DEADLINES.inc()
        raise DeadlineError(f"no answer within {seconds:.3g} s; {advice}") from None
