"""Which keys are being computed, and by whom; computes and stores nothing.

A request leads the keys that nobody computes yet and joins those that somebody does. It lands what
it leads before it waits for what it joined, so two requests that each lead what the other joined
cannot wait for each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Generic, NamedTuple, TypeVar

from koine.errors import KoineError

T = TypeVar("T")


class Refused(NamedTuple):
    """Why the leader's whole request was refused."""

    error: KoineError


class Flights(Generic[T]):
    """The keys under way in this process."""

    def __init__(self) -> None:
        self._under_way: dict[bytes, asyncio.Future[T | Refused | None]] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    def board(self, keys: Iterable[bytes]) -> Boarding[T]:
        """Leads every key that nobody leads, joins the others; never waits.

        Whoever leads a key must `land` it, whatever happens.
        """
        led: list[bytes] = []
        joined: dict[bytes, asyncio.Future[T | Refused | None]] = {}
        loop = asyncio.get_running_loop()
        for key in keys:
            if key in self._under_way:
                joined[key] = self._under_way[key]
            else:
                self._under_way[key] = loop.create_future()
                led.append(key)
        return Boarding(led, joined)

    def land(self, key: bytes, result: T | Refused | None) -> None:
        """Ends a flight that the caller leads; with None those who joined must do it again."""
        self._under_way.pop(key).set_result(result)


class Boarding(NamedTuple, Generic[T]):
    """What a request leads, and the flights that it joined."""

    led: list[bytes]
    joined: dict[bytes, asyncio.Future[T | Refused | None]]

    async def next_landed(self) -> dict[bytes, T]:
        """Waits until a joined flight has landed; takes it and others that have out of `joined`.

        Abandoned ones are taken out without a result. Raises what a leader was refused with. A
        cancellation here harms no flight.
        """
        await asyncio.wait(self.joined.values(), return_when=asyncio.FIRST_COMPLETED)
        landed: dict[bytes, T] = {}
        for key, flight in list(self.joined.items()):
            if flight.done():
                del self.joined[key]
                result = flight.result()
                if isinstance(result, Refused):
                    raise result.error
                if result is not None:
                    landed[key] = result
        return landed
