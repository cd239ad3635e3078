"""Codes and computations that tests of the cache use, and how they count."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
from prometheus_client import REGISTRY

from service.cache.cache import Answer, Compute
from service.jobs import Row


def key(n: int) -> bytes:
    """As long as a real one."""
    return hashlib.sha256(str(n).encode()).digest()


def codes(n: int) -> dict[str, Row]:
    """Codes of their own for every n, in two streams."""
    indices_K = np.arange(n, n + 4, dtype=np.int32)
    values_K = np.linspace(n, n + 1, 4, dtype=np.float32)
    row = Row(indices_K, values_K, float(np.float32(n / 7)))
    return {"tiny_a": row, "tiny_text": row._replace(fvu=float("nan"))}


def same(one: Answer, other: Answer) -> bool:
    """Whether they are the same codes, bit for bit."""
    assert isinstance(one, dict)
    assert isinstance(other, dict)
    return list(one) == list(other) and all(
        a.indices_K.tobytes() == b.indices_K.tobytes()
        and a.values_K.tobytes() == b.values_K.tobytes()
        and np.float32(a.fvu).tobytes() == np.float32(b.fvu).tobytes()
        for a, b in zip(one.values(), other.values(), strict=True)
    )


class Computation:
    """Computes codes of the numbers behind positions, and notes which."""

    def __init__(self) -> None:
        self.computed: list[int] = []

    def of(self, numbers: Sequence[int]) -> Compute:
        """As `CodeCache.answers` takes it."""

        async def compute(positions: list[int]) -> list[Answer]:
            self.computed += [numbers[n] for n in positions]
            await asyncio.sleep(0)
            return [codes(numbers[n]) for n in positions]

        return compute


def metric(name: str, **labels: str) -> float:
    """A metric's value."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def eventually(holds: Callable[[], bool | Awaitable[bool]], seconds: float = 30) -> None:
    """Returns when it holds."""
    deadline = time.monotonic() + seconds
    while True:
        result = holds()
        if result if isinstance(result, bool) else await result:
            return
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
