"""What each step reads, ready on the training device: from there, from RAM, or by memory map.

The batch of a step is a function of seed and step; where the features lie changes how fast it
comes, not a bit of it. Knows no model.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from training.activations.resident import Resident, bytes_of
from training.activations.store import ActivationStore
from training.configs import FitConfig
from training.memory import GIB, SHARE, free_on_device, free_on_machine
from training.parallel import ALONE, Group
from training.schedule import counted_items, selecting_streams, step_rows

THREADS = 4
"""Steps read at the same time: each waits for the disk on its own."""
AHEAD = 6
"""Steps read before they are asked for: what bounds the memory of reading ahead."""

log = logging.getLogger(__name__)

Read = Callable[[Int64[np.ndarray, "N"], Float64[np.ndarray, "N"]], dict[str, Float[Tensor, "N D"]]]


class StepBatch(NamedTuple):
    """This worker's items of one step, on the training device."""

    acts: dict[str, Float[Tensor, "N D"]]
    """By stream; zeros where an item lacks it."""
    present_NS: Bool[Tensor, "N S"]
    selecting_NS: Bool[Tensor, "N S"]
    """Streams that choose an item's support."""
    counted_N: Bool[Tensor, "N"]
    """Items that tell which latents are dead."""


class Feed:
    """The training rows of a store, batch by batch; use `open_feed`."""

    def __init__(
        self,
        store: ActivationStore,
        config: FitConfig,
        device: torch.device,
        group: Group,
        read: Read,
        *,
        threads: int,
    ) -> None:
        self.rows = store.split("train")
        self._store, self._config, self._device = store, config, device
        self._read, self._threads = read, threads
        self._own = group.part(min(config.batch_size, len(self.rows)))

    def batches(self, start: int, end: int) -> Generator[StepBatch, None, None]:
        """The batches of the steps start..end; threads that read ahead end with the iterator."""
        if not self._threads:
            yield from (self._on_device(self._make(step)) for step in range(start, end))
            return
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="feed")
        try:
            coming = (pool.submit(self._make, step) for step in range(start, end))
            waiting: deque[Future[StepBatch]] = deque(islice(coming, AHEAD))
            while waiting:
                batch = waiting.popleft().result()
                waiting.extend(islice(coming, 1))
                yield self._on_device(batch)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _make(self, step: int) -> StepBatch:
        """Draws are made for the whole batch, so that they do not depend on the workers."""
        rows_N, draws_N = step_rows(self.rows, step, self._config)
        present_NS = self._store.present(rows_N)
        selecting_NS = selecting_streams(present_NS, step, self._config)
        counted_N = counted_items(selecting_NS, present_NS)
        own = self._own
        masks = (torch.from_numpy(mask[own]) for mask in (present_NS, selecting_NS, counted_N))
        return StepBatch(self._read(rows_N[own], draws_N[own]), *masks)

    def _on_device(self, batch: StepBatch) -> StepBatch:
        def move(tensor: Tensor) -> Tensor:
            return tensor.to(self._device, non_blocking=True)

        acts = {name: move(acts_ND) for name, acts_ND in batch.acts.items()}
        return StepBatch(acts, *(move(mask) for mask in batch[1:]))


def open_feed(
    store: ActivationStore,
    config: FitConfig,
    device: torch.device,
    *,
    memory: float | None = None,
    group: Group = ALONE,
) -> Feed:
    """A feed from the fastest place that holds the training rows' features.

    `memory` is the most GiB that they may take; None allows half of what is free, on the device
    first and then in RAM (a machine's workers share its RAM). What does not fit is memory-mapped.
    """
    rows_R = store.split("train")
    size = bytes_of(store, rows_R)
    place, room = _place(size, device, memory, group)
    if group.leads:
        log.info(_in_words(size, place, room))
    if place is None:
        read, threads = _mapped(store, device), THREADS
    else:
        read, threads = Resident(store, rows_R, place).gather, 0
        if place != device:
            read, threads = _pinned(read, device), 1
    return Feed(store, config, device, group, read, threads=threads)


def _place(
    size: int, device: torch.device, memory: float | None, group: Group
) -> tuple[torch.device | None, int]:
    """Where the features go, None for nowhere, and the bytes that they may take there."""
    places = [(torch.device("cpu"), free_on_machine() // group.local_size)]
    if device.type == "cuda":
        places.insert(0, (device, free_on_device(device)))
    room = 0
    for place, free in places:
        room = int(free * SHARE) if memory is None else min(int(memory * GIB), free)
        if size <= room:
            return place, room
    return None, room


def _in_words(size: int, place: torch.device | None, room: int) -> str:
    if place is None:
        return (
            f"features: {size / GIB:.2f} GiB, memory-mapped ({room / GIB:.2f} GiB may be taken);"
            f" {THREADS} threads read up to {AHEAD} steps ahead"
        )
    where = "in RAM" if place.type == "cpu" else f"on {place}"
    return f"features: {size / GIB:.2f} GiB {where} ({room / GIB:.2f} GiB may be taken)"


def _mapped(store: ActivationStore, device: torch.device) -> Read:
    def read(
        rows_N: Int64[np.ndarray, "N"], draws_N: Float64[np.ndarray, "N"]
    ) -> dict[str, Float[Tensor, "N D"]]:
        acts = store.gather(rows_N, draws_N).acts
        return {name: torch.from_numpy(acts_ND) for name, acts_ND in acts.items()}

    return _pinned(read, device)


def _pinned(read: Read, device: torch.device) -> Read:
    """Page-locked for CUDA, so that the copy to the device runs beside the step before."""
    if device.type != "cuda":
        return read

    def pin(
        rows_N: Int64[np.ndarray, "N"], draws_N: Float64[np.ndarray, "N"]
    ) -> dict[str, Float[Tensor, "N D"]]:
        return {name: acts_ND.pin_memory() for name, acts_ND in read(rows_N, draws_N).items()}

    return pin
