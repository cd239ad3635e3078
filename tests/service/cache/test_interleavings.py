"""Random requests, endings and cancellations: everybody gets the answers of its own keys."""

from __future__ import annotations

import asyncio
import random

import pytest

from koine.errors import OverloadedError
from service.cache import CodeCache
from service.cache.cache import Answer, Compute
from service.cache.local import LocalTier
from tests.service.cache.codes import codes, key, same
from tests.service.cache.opened import run


class Chaos:
    """Requests of random keys, computations of random length and ending, random cancellations."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.cache = CodeCache(LocalTier(self.rng.choice([500, 2000, 2**20]), 3600))
        self.flying: set[int] = set()
        self.outcomes: list[str] = []

    def compute(self, numbers: list[int], bare: set[int]) -> Compute:
        async def compute(positions: list[int]) -> list[Answer]:
            led = [numbers[n] for n in positions if n not in bare]
            assert len(set(led)) == len(led)
            assert not self.flying & set(led)  # never two computations of one key
            self.flying |= set(led)
            try:
                for _ in range(self.rng.randrange(6)):
                    await asyncio.sleep(0)
                ending = self.rng.random()
                if ending < 0.1:
                    raise OverloadedError("full", 1.0)
                if ending < 0.2:
                    raise ZeroDivisionError
                return [codes(numbers[n]) for n in positions]
            finally:
                self.flying -= set(led)

        return compute

    async def request(self) -> None:
        numbers = [self.rng.randrange(6) for _ in range(self.rng.randrange(1, 6))]
        bare = {n for n in range(len(numbers)) if self.rng.random() < 0.15}
        keys = [None if n in bare else key(number) for n, number in enumerate(numbers)]
        for _ in range(self.rng.randrange(8)):
            await asyncio.sleep(0)
        try:
            answers = await self.cache.answers(keys, self.compute(numbers, bare))
        except OverloadedError:
            self.outcomes.append("refused")
        except ZeroDivisionError:
            self.outcomes.append("fault")
        else:
            assert len(answers) == len(numbers)
            assert all(same(a, codes(n)) for a, n in zip(answers, numbers, strict=True))
            self.outcomes.append("answered")

    async def body(self) -> None:
        tasks = [asyncio.create_task(self.request()) for _ in range(25)]
        for _ in range(self.rng.randrange(12)):
            await asyncio.sleep(0)
            self.rng.choice(tasks).cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        odd = [e for e in ends if e is not None and not isinstance(e, asyncio.CancelledError)]
        assert odd == []
        assert len(self.cache._flights) == 0
        assert self.flying == set()


@pytest.mark.parametrize("seeds", range(4))
def test_each_waiter_gets_its_own_key_under_any_interleaving(seeds: int) -> None:
    async def body() -> None:
        outcomes: list[str] = []
        for seed in range(seeds * 100, seeds * 100 + 100):
            chaos = Chaos(seed)
            await chaos.body()
            outcomes += chaos.outcomes
        assert set(outcomes) == {"answered", "refused", "fault"}
        assert outcomes.count("answered") > len(outcomes) / 2

    run(body)
