"""Threads that run compiled kernels block by block, and buffers that outlive a step.

Knows neither what a kernel computes nor torch's graph. A block's result depends on the block alone,
never on which thread ran it or when, so results are the same to the bit for any number of threads.
"""

from __future__ import annotations

import inspect
import itertools
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

_FLAGS = {"reassoc", "contract", "arcp", "nsz"}  # not "nnan", "ninf": a bad loss must be seen
_KEPT_FROM = 1 << 20  # bytes; below, malloc reuses memory by itself


def compiled(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Compile for the CPU without the GIL; machine code is kept beside the source or in HOME."""
    function = inspect.unwrap(kernel)  # the tests' type checks wrap it in Python
    # Python's division by zero is a branch, and loops with branches are not vectorised
    options: dict[str, Any] = {"nogil": True, "fastmath": _FLAGS, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no folder to write to
        return numba.njit(**options)(function)


def over_blocks(kernel: Callable[..., Any], total: int, block: int, *args: Any) -> None:
    """Call `kernel(start, stop, *args)` for each block of `range(total)`, on torch's threads."""
    blocks = -(-total // block)
    turns = itertools.count()

    def work() -> None:
        while (turn := next(turns)) < blocks:  # `next` of a count is one step under the GIL
            kernel(turn * block, min(total, (turn + 1) * block), *args)

    helpers = min(torch.get_num_threads(), blocks // 4) - 1  # waking one costs several blocks
    futures = [_executor(os.getpid()).submit(work) for _ in range(helpers)]
    work()
    for future in futures:
        future.result()


@lru_cache(maxsize=1)
def _executor(pid: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix=f"kernels-{pid}")


class Buffers:
    """Uninitialised tensors whose memory is used again once nobody holds them.

    Fresh memory costs a page fault per 4 KiB, several times what writing it costs.
    """

    def __init__(self) -> None:
        self._kept: dict[int, list[np.ndarray]] = {}

    def empty(self, *shape: int) -> Tensor:
        """A float32 tensor on the CPU."""
        count = int(np.prod(shape))
        if 4 * count < _KEPT_FROM:
            return torch.empty(shape)
        kept = self._kept.setdefault(count, [])
        for buffer in kept:
            if sys.getrefcount(buffer) == 3:  # the list, the loop variable, the call
                return torch.from_numpy(buffer).view(shape)
        kept.append(np.empty(count, np.float32))
        return torch.from_numpy(kept[-1]).view(shape)

    def clear(self) -> None:
        """Give the memory back."""
        self._kept.clear()


buffers = Buffers()
"""Shared by all kernels of the process."""
