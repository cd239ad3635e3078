"""A thread of its own for slow requests: they wait for each other, and codes not for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from koine.errors import OverloadedError

T = TypeVar("T")


class Lane:
    """One thread; `most` requests are in it or wait for it."""

    def __init__(self, name: str, most: int) -> None:
        self._name, self._most = name, most
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._under_way = 0

    def check_room(self) -> None:
        """Raises `OverloadedError` where one more request is too many."""
        if self._under_way >= self._most:
            raise OverloadedError(
                f"{self._under_way} requests to {self._name} are under way, as many as may be; "
                "send the request again later",
                1.0,
            )

    async def run(self, call: Callable[[], T]) -> T:
        """The result of `call` in the thread. Raises `OverloadedError`.

        Cancelled while it waits it never begins.
        """
        self.check_room()
        self._under_way += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, call)
        finally:
            self._under_way -= 1

    def close(self) -> None:
        """Ends the thread; what has not begun never does."""
        self._pool.shutdown(wait=False, cancel_futures=True)
