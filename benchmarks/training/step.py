"""Time and peak memory of the trainer's step against the dense formulation, measured in one run.

Both the default method, whose streams select in a shared space, and the one that selects by
pre-codes. `python -m benchmarks.training.step` prints entries; `--scan` varies one size at a time.
What the baseline computes stands in `dense.py`; knows nothing of where results are kept.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch

from benchmarks.entry import Entry, entry
from benchmarks.training.dense import Dense
from benchmarks.training.made import write_store
from training.activations.store import ActivationStore
from training.alignment import plant_prototypes
from training.configs import FitConfig, SelectorConfig, aligned
from training.feed import StepBatch, open_feed
from training.kernels.pool import buffers
from training.parallel import ALONE
from training.trainer import Trainer

CURVE_STEPS = 30
CURVE_TOLERANCE = 1e-2
"""Relative. Two orders of summation differ by rounding, and a tie may select another latent."""
_ROWS = 4096
_CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Sizes and method of one measurement."""

    num_concepts: int = 8192
    k: int = 64
    batch: int = 256
    widths: tuple[int, ...] = (1024, 768, 768)
    selector: bool = True
    """Whether streams select in a shared space, as by default, or by their pre-codes."""

    @property
    def name(self) -> str:
        """In an entry's name."""
        streams = "-".join(map(str, self.widths))
        method = "aligned" if self.selector else "pre_codes"
        return f"{method}_C{self.num_concepts}_K{self.k}_N{self.batch}_D{streams}"

    @property
    def config(self) -> FitConfig:
        """At the peak learning rate and past the start of teaching."""
        made = aligned(selector=SelectorConfig(start=0.0)) if self.selector else FitConfig()
        return replace(
            made,
            num_concepts=self.num_concepts,
            k=self.k,
            batch_size=self.batch,
            steps=10**6,
            warmup=0.0,
            decay=0.0,
        )


def _of_both(shape: Shape) -> list[Shape]:
    return [shape, replace(shape, selector=False)]


SMALL, LARGE = Shape(), Shape(batch=2048)
CURVES = _of_both(Shape(num_concepts=2048, k=32, widths=(256, 192, 192)))
TARGETS = {shape: target for one, target in ((SMALL, 5.0), (LARGE, 8.0)) for shape in _of_both(one)}
MEMORY_TARGET = 2.0
SCAN = [
    *(replace(SMALL, num_concepts=c) for c in (2048, 4096, 16384, 32768)),
    *(replace(SMALL, k=k) for k in (16, 32, 128, 256)),
    *(replace(SMALL, widths=(768,) * s) for s in (1, 2, 4)),
    *(replace(SMALL, widths=(d,) * 3) for d in (256, 512, 1024)),
]


class Ours:
    """The trainer's step."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.model = trainer, trainer.model
        other = trainer.selector_optimizer
        self.optimizers = [trainer.optimizer] if other is None else [trainer.optimizer, other]

    def step(self, batch: StepBatch) -> float:
        """The loss of one step."""
        lost = self.trainer.take_step(batch)
        self.trainer.step += 1
        return lost.total.item()


@contextmanager
def started(shape: Shape) -> Iterator[tuple[Trainer, Iterator[StepBatch]]]:
    """A trainer over synthetic rows, its prototypes planted, and the batches of its steps."""
    with tempfile.TemporaryDirectory() as folder:
        place, config = Path(folder) / "store", shape.config
        widths = {f"s{i}": d for i, d in enumerate(shape.widths)}
        write_store(place, max(_ROWS, 2 * shape.batch), widths)
        store = ActivationStore.open(place, verify=False)
        feed = open_feed(store, config, _CPU)
        trainer = Trainer(store, config, Path(folder) / "run", _CPU, feed, ALONE)
        if shape.selector:
            plant_prototypes(trainer.model, store, feed.rows, config.seed)
        trainer.step = 1
        batches = feed.batches(trainer.step, trainer.total_steps)
        yield trainer, batches
        batches.close()


def entries(scan: bool = False, rounds: int = 5) -> list[Entry]:
    """Step times and peak memory at the target shapes; with `scan` also at the others."""
    for shape in CURVES:
        check_curves(shape)
    found = [_time_entry(shape, target, rounds) for shape, target in TARGETS.items()]
    found += [_memory_entry(shape) for shape in _of_both(LARGE)]
    if scan:
        found += [_time_entry(shape, None, 3) for shape in SCAN]
    return found


def check_curves(shape: Shape) -> None:
    """RuntimeError where the loss curves of both steps part within CURVE_STEPS steps."""
    with started(shape) as (trainer, batches):
        ours, dense = Ours(trainer), Dense(trainer)
        for step, batch in enumerate(islice(batches, CURVE_STEPS)):
            got, wanted = ours.step(batch), dense.step(batch)
            if abs(got - wanted) > CURVE_TOLERANCE * wanted:
                raise RuntimeError(
                    f"{shape.name}, step {step}: loss {got} against {wanted} of the dense"
                    " formulation"
                )


def _time_entry(shape: Shape, target: float | None, rounds: int) -> Entry:
    """Best of `rounds` alternating steps each; the spread is that of the ratios of neighbours.

    The best of few steps depends on who else uses the machine: at a batch of 2,048 two steps gave
    ratios between 6 and 8.5.
    """
    times: dict[str, list[float]] = {"ours": [], "dense": []}
    with started(shape) as (trainer, batches):
        both = (("ours", Ours(trainer)), ("dense", Dense(trainer)))
        for turn, batch in enumerate(islice(batches, rounds + 1)):
            for name, subject in both:
                seconds = _seconds(lambda subject=subject, batch=batch: subject.step(batch))
                if turn:  # the first compiles and allocates
                    times[name].append(seconds)
    ratios = [d / o for o, d in zip(times["ours"], times["dense"], strict=True)]
    best = {name: min(seconds) for name, seconds in times.items()}
    return entry(
        f"step_time_{shape.name}",
        best["ours"],
        best["dense"],
        ratio=best["dense"] / best["ours"],
        target=target,
        unit="s",
        spread=statistics.pstdev(ratios),
    )


def _seconds(step: Callable[[], object]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def _memory_entry(shape: Shape) -> Entry:
    """Peak beyond weights and Adam's moments, each in a fresh process."""
    peaks = {}
    for name in ("ours", "dense"):
        command = [sys.executable, "-m", "benchmarks.training.step", "--peak", name]
        command += ["--batch", str(shape.batch)] + ["--pre-codes"] * (not shape.selector)
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks[name] = float(done.stdout)
    return entry(
        f"step_peak_memory_{shape.name}",
        peaks["ours"],
        peaks["dense"],
        ratio=peaks["dense"] / peaks["ours"],
        target=MEMORY_TARGET,
        unit="MiB",
    )


def peak_mib(name: str, shape: Shape) -> float:
    """Growth of this process's peak over two steps, its moments allocated and code compiled."""
    made = {"ours": Ours, "dense": Dense}[name]
    with started(replace(shape, num_concepts=256, k=4, batch=8, widths=(8, 8))) as (tiny, batches):
        made(tiny).step(next(batches))
    with started(shape) as (trainer, batches):
        subject, batch = made(trainer), next(batches)
        for optimizer in subject.optimizers:
            _allocate_moments(optimizer)
        before = _resident_from_now()
        for _ in range(2):
            subject.step(batch)
        return (_status_kib("VmHWM") - before) / 1024


def _resident_from_now() -> int:
    """KiB resident once freed memory is given back; the peak (VmHWM) starts here again."""
    gc.collect()
    buffers.clear()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _status_kib("VmRSS")


def _status_kib(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def _allocate_moments(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] = {"step": torch.zeros(())}
            for moment in ("exp_avg", "exp_avg_sq"):
                zeros = torch.full_like(parameter, 0.0)
                optimizer.state[parameter][moment] = zeros.add_(0)  # touch the pages


def main() -> None:
    """Print entries as JSON, or one process's peak."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scan", action="store_true", help="also vary C, K, S and D")
    parser.add_argument("--rounds", type=int, default=5, help="measured steps of each kind")
    parser.add_argument("--peak", choices=["ours", "dense"], help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=LARGE.batch, help=argparse.SUPPRESS)
    parser.add_argument("--pre-codes", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak:
        shape = replace(LARGE, batch=given.batch, selector=not given.pre_codes)
        print(peak_mib(given.peak, shape))
    else:
        print(json.dumps(entries(given.scan, given.rounds), indent=2))


if __name__ == "__main__":
    main()
