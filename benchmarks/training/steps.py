"""The trainer's own steps, timed one by one: reading, losses, optimizer; no files."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator
from pathlib import Path

import torch

from training.activations.store import ActivationStore
from training.configs import FitConfig
from training.feed import open_feed
from training.parallel import ALONE
from training.trainer import Trainer


def seconds_per_step(
    store: ActivationStore, config: FitConfig, *, memory: float | None = None
) -> Generator[float, None, None]:
    """Seconds of each further step on the CPU, without end."""
    cpu = torch.device("cpu")
    feed = open_feed(store, config, cpu, memory=memory)
    with tempfile.TemporaryDirectory() as run:
        trainer = Trainer(store, config, Path(run), cpu, feed, ALONE)
        batches = feed.batches(0, trainer.total_steps)
        while True:
            started = time.perf_counter()
            trainer.take_step(next(batches))
            yield time.perf_counter() - started
