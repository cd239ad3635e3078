"""Which of several drift workers judges: the one that holds a lease in Redis; judges nothing.

Verdicts on the same counts are the same, and are kept once: two that lead for a moment, because one
was held up longer than its lease, cost a second event in the audit log and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Sequence
from typing import Any, cast

from pydantic import SecretStr
from redis.exceptions import LockError

from service.cache.redis_link import FAULTS, connect, disconnect
from service.counting.buckets import NAMESPACE, PATIENCE_S

LEASE_S = 20.0
"""After which another may lead, where the leader does not renew it."""

log = logging.getLogger(__name__)


class Leader:
    """Ask whether this process `leads` every few seconds; `resign` at the end."""

    def __init__(self, url: SecretStr, lease_s: float = LEASE_S) -> None:
        self._client, self._lease_s = connect(url), lease_s
        self._name: str = ""
        self._lock: Any = None
        self._told: bool | None = False

    async def leads(self, digests: Sequence[str]) -> bool | None:
        """Whether this process judges these dictionaries; None where Redis cannot be asked.

        Processes that judge other dictionaries have a lease of their own.
        """
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._choose(digests)
                leads = await self._renewed() or bool(await self._lock.acquire())
        except FAULTS as error:
            if self._told is not None:
                log.warning("who leads cannot be known, Redis does not answer: %s", error)
            self._told = None
            await disconnect(self._client)
            return None
        if leads is not self._told:
            log.info("this process %s", "judges from now on" if leads else "stands by")
        self._told = leads
        return leads

    async def resign(self) -> None:
        """Lets another lead at once."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._release()
        except FAULTS as error:
            log.debug("the lease ends by itself: %s", error)
        await disconnect(self._client)

    async def _choose(self, digests: Sequence[str]) -> None:
        name = hashlib.sha256(" ".join(sorted(digests)).encode()).hexdigest()[:16]
        if name == self._name:
            return
        await self._release()
        self._name = name
        self._lock = cast(Any, self._client).lock(
            f"{NAMESPACE}:leader:{name}",
            timeout=self._lease_s,
            blocking=False,
            thread_local=False,
        )

    async def _release(self) -> None:
        if self._lock is not None:
            with contextlib.suppress(LockError):  # not held, or lost to another
                await self._lock.release()

    async def _renewed(self) -> bool:
        try:
            return bool(await self._lock.reacquire())
        except LockError:
            return False
