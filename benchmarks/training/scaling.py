"""Cost of a training sample against each size, and what large runs cost on paper, as Markdown.

`python -m benchmarks.training.scaling` times the trainer's own steps on the CPU, one size changed
at a time in small increments, in turns with the others, and prints the tables of docs/scaling.md.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import date
from itertools import islice
from pathlib import Path

from benchmarks.entry import commit, hardware
from benchmarks.training.made import write_store
from benchmarks.training.steps import seconds_per_step
from training.activations.store import ActivationStore
from training.configs import SelectorConfig, aligned

GIB = 1 << 30
SELECTOR = SelectorConfig(start=0.0)
"""The default one, past the start of teaching."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Sizes of one measurement, or of one run on paper."""

    num_concepts: int = 2048
    k: int = 32
    widths: tuple[int, ...] = (512, 512, 512)
    batch: int = 256

    @property
    def parameters(self) -> int:
        """Encoder, dictionary and biases of every stream; prototypes and the streams' maps."""
        latents = self.num_concepts * (2 * sum(self.widths) + len(self.widths))
        components = [min(SELECTOR.components, d_in) for d_in in self.widths]
        shared = SELECTOR.width * (self.num_concepts + sum(components) + len(components))
        return latents + sum(self.widths) + shared + len(self.widths)

    @property
    def flops(self) -> int:
        """A sample's multiplications and additions; Adam's and the search for the largest scores
        are left out.

        Scores by pre-codes: 2 C ΣD. Scores in the shared space of R dimensions, and teaching,
        forward and backward: 8 C R S. At the support alone: pre-codes and their gradients 4 K ΣD,
        each correction 4 K ΣD, reconstruction of every stream from S sources with gradients for
        rows and codes 6 S K ΣD.
        """
        width, streams = sum(self.widths), len(self.widths)
        scores = 2 * self.num_concepts * width + 8 * self.num_concepts * SELECTOR.width * streams
        return scores + (4 + 4 * SELECTOR.refinements + 6 * streams) * self.k * width


BASE = Shape()
SCANS: dict[str, list[Shape]] = {
    "num_concepts": [
        replace(BASE, num_concepts=c) for c in (1024, 1536, 2048, 3072, 4096, 6144, 8192)
    ],
    "k": [replace(BASE, k=k) for k in (8, 16, 32, 48, 64, 96, 128)],
    "S": [replace(BASE, widths=(512,) * s) for s in (1, 2, 3, 4, 5)],
    "D": [replace(BASE, widths=(d,) * 3) for d in (128, 256, 384, 512, 768, 1024)],
    "N": [replace(BASE, batch=n) for n in (32, 64, 128, 256, 512, 1024)],
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A run on paper."""

    name: str
    items: int
    epochs: int
    shape: Shape
    workers: int = 1


OPEN_IMAGES = Shape(num_concepts=8192, k=64, widths=(1024, 768, 768), batch=256)
JOBS = [
    Job(name="Open Images", items=1_700_000, epochs=50, shape=OPEN_IMAGES),
    Job(name="1 G items", items=10**9, epochs=1, shape=replace(OPEN_IMAGES, batch=8192), workers=8),
]


def size_of(name: str, shape: Shape) -> int:
    """The size that a scan changes."""
    sizes = {"S": len(shape.widths), "D": shape.widths[0], "N": shape.batch}
    return sizes[name] if name in sizes else getattr(shape, name)


def microseconds(shapes: Sequence[Shape], rounds: int, folder: Path) -> list[float]:
    """Median microseconds a sample of each shape; shapes take turns, so a busy moment hits all."""
    with ExitStack() as stack:
        steps = []
        for shape in shapes:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder))) / "store"
            widths = {f"s{number}": d for number, d in enumerate(shape.widths)}
            write_store(place, 2048, widths)
            config = aligned(
                num_concepts=shape.num_concepts,
                k=shape.k,
                batch_size=shape.batch,
                steps=10**6,
                selector=SELECTOR,
            )
            steps.append(seconds_per_step(ActivationStore.open(place, verify=False), config))
        for one in steps:
            list(islice(one, 2))  # the first allocate
        taken = [[next(one) for one in steps] for _ in range(rounds)]
        for one in steps:
            one.close()
    medians = [statistics.median(times) for times in zip(*taken, strict=True)]
    return [1e6 * time / shape.batch for time, shape in zip(medians, shapes, strict=True)]


def scan_table(name: str, costs: Sequence[float]) -> str:
    """One scan: size, cost, and cost against the base shape's in time and in arithmetic."""
    shapes = SCANS[name]
    base = costs[shapes.index(BASE)]
    lines = [
        f"| {name} | µs a sample | of the base | arithmetic of the base |",
        "|---|---|---|---|",
    ]
    for shape, cost in zip(shapes, costs, strict=True):
        flops = shape.flops / BASE.flops
        lines.append(
            f"| {size_of(name, shape):,} | {cost:,.0f} | {cost / base:.2f} | {flops:.2f} |"
        )
    return "\n".join(lines)


def paper_table(job_costs: Sequence[float]) -> str:
    """What the large runs take; `job_costs` are measured µs a sample at their shapes."""
    lines = ["| | " + " | ".join(job.name for job in JOBS) + " |", "|---" * (len(JOBS) + 1) + "|"]
    columns = [_figures(job, cost) for job, cost in zip(JOBS, job_costs, strict=True)]
    for name in columns[0]:
        lines.append(f"| {name} | " + " | ".join(column[name] for column in columns) + " |")
    return "\n".join(lines)


def _figures(job: Job, cost_us: float) -> dict[str, str]:
    shape, samples = job.shape, job.items * job.epochs
    width, parameters = sum(shape.widths), 4 * shape.parameters
    sent = 2 * (job.workers - 1) / job.workers * parameters
    return {
        "samples": f"{samples:,}",
        "steps": f"{samples // shape.batch:,}",
        "store, float32 / float16": f"{job.items * width * 4 / GIB:,.0f} / "
        f"{job.items * width * 2 / GIB:,.0f} GiB",
        "read by a worker, one epoch": f"{job.items * width * 4 / GIB / job.workers:,.0f} GiB",
        "index and row numbers in RAM": f"{_index_bytes(job) / GIB:,.2f} GiB a worker",
        "parameters": f"{shape.parameters / 1e6:,.1f} M",
        "weights, gradients, Adam": f"{4 * parameters / GIB:,.2f} GiB",
        "arithmetic": f"{samples * shape.flops / 1e15:,.0f} PFLOP",
        "CPU time at the measured cost": f"{samples * cost_us / 1e6 / 3600:,.0f} h",
        "workers": str(job.workers),
        "sent by a worker each step": f"{sent / GIB:,.2f} GiB",
        "sent by a worker in all": f"{sent * (samples // shape.batch) / GIB / 1024:,.1f} TiB",
    }


def _index_bytes(job: Job) -> int:
    """A split's code and the number of each training row, where a row has one vector a stream."""
    return job.items * (1 + 8)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="timed steps of each shape")
    parser.add_argument("--folder", type=Path, help="where small stores are written meanwhile")
    given = parser.parse_args()
    print(f"Measured {date.today()} at {commit()}: {hardware()}; median of {given.rounds} steps.")
    for name, shapes in SCANS.items():
        print("\n" + scan_table(name, microseconds(shapes, given.rounds, given.folder)), flush=True)
    jobs = [replace(job.shape, batch=min(job.shape.batch, 1024)) for job in JOBS]
    print("\n" + paper_table(microseconds(jobs, max(3, given.rounds // 3), given.folder)))


if __name__ == "__main__":
    main()
