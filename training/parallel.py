"""Workers that train one dictionary together, each on its part of every batch; knows no model.

`torchrun` starts them and ends all when one is lost. Sums over workers replace sums over the whole
batch, so the result is that of one worker up to rounding. One worker alone exchanges nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.distributed.nn.functional  # before any group exists: see `joined`
from jaxtyping import Int64
from torch import Tensor

from koine.errors import TrainingError

TIMEOUT = timedelta(minutes=10)
"""Longest wait for another worker: more than any checkpoint takes, little against a run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """The workers of a run, as one of them sees them; changes tensors in place."""

    rank: int = 0
    """This worker's number."""
    size: int = 1
    """Workers in all."""
    local_rank: int = 0
    """This worker's number on its machine, which is also its device's."""
    local_size: int = 1
    """Workers on this machine."""

    @property
    def leads(self) -> bool:
        """Whether this worker writes the run's files."""
        return self.rank == 0

    def part(self, total: int) -> slice:
        """This worker's part of `total` items; ValueError where they do not divide."""
        if total % self.size:
            raise ValueError(
                f"`batch_size` must divide by the {self.size} workers, got {total}: choose"
                f" {total // self.size * self.size or self.size} or another number of workers"
            )
        each = total // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over workers, the same bits in each; carries no gradient."""
        return self._reduce([tensor], dist.ReduceOp.SUM)[0]

    def least(self, tensor: Tensor) -> Tensor:
        """The element-wise minimum over workers."""
        return self._reduce([tensor], dist.ReduceOp.MIN)[0]

    def whole(self, own_N: Tensor) -> Tensor:
        """The batch's values, of which each worker gives those of its own items."""
        if self.size == 1:
            return own_N
        whole_N = own_N.new_zeros(len(own_N) * self.size, *own_N.shape[1:])
        whole_N[self.part(len(whole_N))] = own_N
        return self.sum(whole_N)

    def items(self, own_N: Tensor, items_L: Int64[Tensor, "L"]) -> Tensor:
        """Values of some items of the whole batch, whichever workers have them."""
        if self.size == 1:
            return own_N[items_L]
        local_L = items_L - self.rank * len(own_N)
        own_L = (local_L >= 0) & (local_L < len(own_N))
        found_L = own_N.new_zeros(len(items_L), *own_N.shape[1:])
        found_L[own_L] = own_N[local_L[own_L]]
        return self.sum(found_L)

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Add up every parameter's gradient."""
        self._reduce([p.grad for p in parameters if p.grad is not None], dist.ReduceOp.SUM)

    def share(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite tensors by those of the worker that leads."""
        if self.size > 1:
            with _lost_workers_named():
                for tensor in tensors:
                    dist.broadcast(tensor.detach(), src=0)

    def wait(self) -> None:
        """Until all workers are here."""
        if self.size > 1:
            self.sum(torch.zeros(1))

    def _reduce(self, tensors: Sequence[Tensor], how: dist.ReduceOp.RedOpType) -> Sequence[Tensor]:
        if self.size > 1:
            with _lost_workers_named():
                works = [dist.all_reduce(tensor, how, async_op=True) for tensor in tensors]
                for work in works:
                    assert work is not None
                    work.wait()
        return tensors


ALONE = Group()
"""One worker."""


@contextmanager
def joined(*, cuda: bool) -> Iterator[Group]:
    """The group that `torchrun` started this process in; `ALONE` without `torchrun`.

    Its threads end with it, so that none asks a dying interpreter for the GIL, which aborts the
    process. They end only if nobody else holds the group: functions of `torch.distributed.nn`
    have the group that exists at their import as a default, and Adam's first step imports them.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    group = Group(
        rank=int(os.environ["RANK"]),
        size=size,
        local_rank=int(os.environ.get("LOCAL_RANK", "0")),
        local_size=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
    )
    if cuda:
        torch.cuda.set_device(group.local_rank)
    with _lost_workers_named():
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=TIMEOUT)
    try:
        yield group
    finally:
        dist.destroy_process_group()


@contextmanager
def _lost_workers_named() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        raise TrainingError(
            f"another worker was lost, or did not answer for {TIMEOUT}: {reason}. The last"
            " checkpoint stays; start the same command again to go on from it"
        ) from error
