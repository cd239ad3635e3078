"""Blocks are all done, once, and buffers are shared by nobody."""

from __future__ import annotations

import threading

import pytest
import torch

from training.kernels.pool import Buffers, over_blocks


@pytest.mark.parametrize(("total", "block"), [(0, 4), (1, 4), (4, 4), (1001, 7)])
def test_every_block_runs_once(total: int, block: int) -> None:
    seen: list[int] = []
    lock = threading.Lock()

    def kernel(start: int, stop: int) -> None:
        with lock:
            seen.extend(range(start, stop))

    over_blocks(kernel, total, block)
    assert sorted(seen) == list(range(total))


def test_an_error_in_a_block_reaches_the_caller() -> None:
    def kernel(start: int, stop: int) -> None:
        raise ValueError("block")

    with pytest.raises(ValueError, match="block"):
        over_blocks(kernel, 64, 1)


def test_memory_is_used_again_only_when_nobody_holds_it() -> None:
    buffers = Buffers()
    first = buffers.empty(1024, 512)
    held = first.view(512, 1024)[3]
    second = buffers.empty(1024, 512)
    assert second.data_ptr() != first.data_ptr()
    address = first.data_ptr()
    del first
    third = buffers.empty(512, 1024)
    assert third.data_ptr() not in (address, second.data_ptr())
    del held
    assert buffers.empty(524288).data_ptr() == address
    assert torch.is_tensor(third)
