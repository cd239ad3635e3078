"""Training from memory maps against training from RAM: rate, and resident anonymous memory.

`python -m benchmarks.training.store --folder DIR` writes an 8 GiB store into DIR, drops it from
the page cache, trains on it from maps and from RAM in turns, and removes it. The mapped process may
keep 2 GiB of anonymous memory; the page cache is the system's to take back, and does not count.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import torch

from benchmarks.entry import Entry, entry
from benchmarks.training.made import WIDTHS, write_store
from benchmarks.training.steps import seconds_per_step
from training.activations.store import ActivationStore
from training.configs import FitConfig
from training.feed import AHEAD, open_feed
from training.memory import GIB, free_on_machine

STORE_GIB = 8.0
MEMORY_GIB = 2.0
RATE = 0.8
ROUNDS, STEPS = 3, 6
CONFIG = FitConfig(num_concepts=4096, k=64, batch_size=1024, steps=1_000_000)


def entries(
    folder: Path | None = None, gib: float = STORE_GIB, config: FitConfig = CONFIG
) -> list[Entry]:
    """Items a second mapped over resident, and 2 GiB over the mapped process's peak."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        store = Path(place) / "store"
        rows = int(gib * GIB) // (4 * sum(WIDTHS.values()))
        write_store(store, rows)
        in_memory = store
        if free_on_machine() < 1.3 * gib * GIB:  # the rate in RAM is that of a smaller store too
            in_memory = Path(place) / "small"
            write_store(in_memory, rows // 8)
        drop_from_page_cache(store)
        rates, peak_gib = _measure(store, in_memory, config)
    ratios = [mapped / resident for mapped, resident in zip(*rates.values(), strict=True)]
    ours, baseline = (statistics.median(some) for some in rates.values())
    shape = f"{gib:g}GiB_C{config.num_concepts}_K{config.k}_N{config.batch_size}"
    return [
        entry(
            f"store_rate_{shape}",
            ours,
            baseline,
            ratio=statistics.median(ratios),
            target=RATE,
            unit="items/s",
            spread=statistics.pstdev(ratios),
        ),
        entry(
            f"store_anonymous_memory_{shape}",
            peak_gib,
            MEMORY_GIB,
            ratio=MEMORY_GIB / peak_gib,
            target=1.0,
            unit="GiB",
        ),
    ]


def reading(folder: Path | None, gib: float, config: FitConfig) -> dict[str, float]:
    """Items a second that a feed gives when nobody computes: from the disk, page cache and RAM."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = Path(place) / "store"
        write_store(path, int(gib * GIB) // (4 * sum(WIDTHS.values())))
        store = ActivationStore.open(path, verify=False)
        drop_from_page_cache(path)
        rates: dict[str, float] = {}
        for name, memory in (("disk", 0.0), ("page cache", 0.0), ("RAM", 1e6)):
            feed = open_feed(store, config, torch.device("cpu"), memory=memory)
            steps = len(store) // config.batch_size
            started = time.perf_counter()
            for _ in feed.batches(0, steps):
                pass
            rates[name] = steps * config.batch_size / (time.perf_counter() - started)
    return rates


def drop_from_page_cache(store: Path) -> None:
    """So that the first reads go to the disk."""
    for file in store.rglob("*.npy"):
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def _measure(
    store: Path, in_memory: Path, config: FitConfig
) -> tuple[dict[str, list[float]], float]:
    """Items a second of each round, and the mapped process's peak in GiB; rounds alternate."""
    rates: dict[str, list[float]] = {"mapped": [], "resident": []}
    with _worker(store, 0.0, config) as mapped, _worker(in_memory, 1e6, config) as resident:
        peak = 0
        for turn in range(ROUNDS + 1):
            for name, worker in (("mapped", mapped), ("resident", resident)):
                assert worker.stdin
                assert worker.stdout
                worker.stdin.write("round\n")
                worker.stdin.flush()
                answer = json.loads(worker.stdout.readline())
                if turn:  # the first allocates
                    rates[name].append(config.batch_size * STEPS / answer["seconds"])
                if name == "mapped":
                    peak = answer["peak"]
    return rates, peak / GIB


@contextmanager
def _worker(store: Path, memory: float, config: FitConfig) -> Iterator[subprocess.Popen[str]]:
    sizes = [config.num_concepts, config.k, config.batch_size]
    command = [sys.executable, "-m", "benchmarks.training.store", "--worker", str(store)]
    command += [str(memory), *map(str, sizes)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    try:
        yield process
    finally:
        process.communicate()


def work(path: str, memory: str, num_concepts: str, k: str, batch_size: str) -> None:
    """Train a round for each line on stdin; steps that waited ready between rounds do not count."""
    config = FitConfig(
        num_concepts=int(num_concepts), k=int(k), batch_size=int(batch_size), steps=1_000_000
    )
    store = ActivationStore.open(path, verify=False)
    with anonymous_peak() as peak:
        steps = seconds_per_step(store, config, memory=float(memory))
        for _ in sys.stdin:
            for _ in islice(steps, AHEAD):
                pass
            answer = {"seconds": sum(islice(steps, STEPS)), "peak": max(peak)}
            print(json.dumps(answer), flush=True)


@contextmanager
def anonymous_peak() -> Iterator[list[int]]:
    """Bytes of resident anonymous memory, sampled every 20 ms; the last of the list is the peak."""
    peak, done = [0], threading.Event()

    def sample() -> None:
        while not done.wait(0.02):
            status = Path("/proc/self/status").read_text().splitlines()
            kib = next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))
            peak[0] = max(peak[0], kib * 1024)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def main() -> None:
    """Print entries as JSON, or be one of the two processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where the store is written meanwhile")
    parser.add_argument("--gib", type=float, default=STORE_GIB, help="size of the store")
    parser.add_argument("--reading", action="store_true", help="time reading alone")
    parser.add_argument("--worker", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if given.worker:
        work(*given.worker)
    elif given.reading:
        print(json.dumps(reading(given.folder, given.gib, CONFIG), indent=2))
    else:
        print(json.dumps(entries(given.folder, given.gib), indent=2))


if __name__ == "__main__":
    main()
