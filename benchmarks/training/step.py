"""Time and peak memory of a training step against the dense formulation, measured in one run.

The baseline multiplies every code, zero or not: an encoder product with its graph per stream, a
scatter into [N, C], S² products with dictionaries, torch's Adam. `python -m
benchmarks.training.step` prints entries; `--scan` varies one size at a time. Knows nothing of where
results are kept.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from benchmarks.training.entry import Entry, entry
from training.configs import FitConfig
from training.losses import forward, losses
from training.model import AlignedDictionary, ModelConfig
from training.optimizer import DictionaryAdam
from training.schedule import selecting_streams

CURVE_STEPS = 30
CURVE_TOLERANCE = 1e-2
"""Relative. Two orders of summation differ by rounding, and a tie may select another latent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Sizes of one measurement."""

    num_concepts: int = 8192
    k: int = 64
    batch: int = 256
    widths: tuple[int, ...] = (1024, 768, 768)

    @property
    def name(self) -> str:
        """In an entry's name."""
        streams = "-".join(map(str, self.widths))
        return f"C{self.num_concepts}_K{self.k}_N{self.batch}_D{streams}"


SMALL, LARGE = Shape(), Shape(batch=2048)
CURVE = Shape(num_concepts=2048, k=32, batch=256, widths=(256, 192, 192))
TARGETS = {SMALL: 5.0, LARGE: 8.0}
MEMORY_TARGET = 2.0
SCAN = [
    *(replace(SMALL, num_concepts=c) for c in (2048, 4096, 16384, 32768)),
    *(replace(SMALL, k=k) for k in (16, 32, 128, 256)),
    *(replace(SMALL, widths=(768,) * s) for s in (1, 2, 4)),
    *(replace(SMALL, widths=(d,) * 3) for d in (256, 512, 1024)),
]


class Ours:
    """The step as the trainer takes it, without reading the store."""

    def __init__(self, shape: Shape) -> None:
        self.config = FitConfig(num_concepts=shape.num_concepts, k=shape.k)
        self.model = new_model(shape)
        self.optimizer = DictionaryAdam(
            self.model.parameters(),
            [self.model.of(name).dictionary_CD for name in self.model.streams],
            lr=self.config.lr,
            grad_clip=self.config.grad_clip,
            renormalise=self.config.renormalise,
        )

    def step(self, acts: dict[str, Tensor], selecting_NS: Tensor) -> float:
        """The loss of one step."""
        out = forward(self.model, acts, selecting_NS, torch.ones_like(selecting_NS))
        lost = losses(self.model, out, torch.ones_like(selecting_NS), None, self.config)
        self.optimizer.zero_grad(set_to_none=True)
        lost.total.backward()
        self.optimizer.step()
        return lost.total.item()


class Dense:
    """The same step by dense products and torch.optim.Adam, as research code writes it."""

    def __init__(self, shape: Shape) -> None:
        self.config = FitConfig(num_concepts=shape.num_concepts, k=shape.k)
        self.model = new_model(shape)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=self.config.lr)

    def step(self, acts: dict[str, Tensor], selecting_NS: Tensor) -> float:
        """The loss of one step."""
        loss = self._loss(acts, selecting_NS)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        dictionaries = [self.model.of(name).dictionary_CD for name in self.model.streams]
        with torch.no_grad():
            for rows_CD in dictionaries:
                assert rows_CD.grad is not None
                rows_CD.grad -= (rows_CD.grad * rows_CD).sum(1, keepdim=True) * rows_CD
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            for rows_CD in dictionaries:
                rows_CD.copy_(nn.functional.normalize(rows_CD, dim=1))
        return loss.item()

    def _loss(self, acts: dict[str, Tensor], selecting_NS: Tensor) -> Tensor:
        model = self.model
        z = {name: model.of(name).normalise(x) for name, x in acts.items()}
        pre = {name: model.of(name).pre_codes(z_ND) for name, z_ND in z.items()}
        masked = [p * selecting_NS[:, i, None] for i, p in enumerate(pre.values())]
        support_NK = torch.stack(masked).sum(0).topk(model.config.k, dim=1).indices
        codes = {
            name: torch.zeros_like(p).scatter(1, support_NK, p.gather(1, support_NK).relu())
            for name, p in pre.items()
        }
        terms: dict[bool, list[Tensor]] = {True: [], False: []}
        for target, z_ND in z.items():
            stream = model.of(target)
            for source, codes_NC in codes.items():
                recon_ND = codes_NC @ stream.dictionary_CD + stream.pre_bias_D
                error = (recon_ND - z_ND).square().sum(1).mean()
                terms[source == target].append(error)
        return sum(torch.stack(t).mean() for t in terms.values() if t)  # pyright: ignore[reportReturnType]


def new_model(shape: Shape) -> AlignedDictionary:
    """The same weights for both."""
    torch.manual_seed(0)
    widths = {f"s{i}": d for i, d in enumerate(shape.widths)}
    return AlignedDictionary(ModelConfig(num_concepts=shape.num_concepts, k=shape.k), widths)


def batches(shape: Shape, count: int) -> list[tuple[dict[str, Tensor], Tensor]]:
    """Activations that show shared sparse atoms, and who selects under stream dropout."""
    generator = torch.Generator().manual_seed(1)
    atoms = [torch.randn(256, d, generator=generator) for d in shape.widths]
    config, made = FitConfig(), []
    for step in range(count):
        codes_NA = torch.rand(shape.batch, 256, generator=generator)
        codes_NA = codes_NA * (torch.rand(shape.batch, 256, generator=generator) < 0.05)
        acts = {}
        for i, atoms_AD in enumerate(atoms):
            noise_ND = torch.randn(shape.batch, atoms_AD.shape[1], generator=generator)
            acts[f"s{i}"] = codes_NA @ atoms_AD + 0.1 * noise_ND
        present_NS = torch.ones(shape.batch, len(atoms), dtype=torch.bool).numpy()
        made.append((acts, torch.from_numpy(selecting_streams(present_NS, step, config))))
    return made


def entries(scan: bool = False, rounds: int = 5) -> list[Entry]:
    """Step times and peak memory at the target shapes; with `scan` also at the others."""
    check_curves()
    found = [_time_entry(shape, target, rounds) for shape, target in TARGETS.items()]
    found.append(_memory_entry(LARGE))
    if scan:
        found += [_time_entry(shape, None, 3) for shape in SCAN]
    return found


def check_curves() -> None:
    """RuntimeError where the loss curves of both steps part within CURVE_STEPS steps."""
    ours, dense = Ours(CURVE), Dense(CURVE)
    for step, (acts, selecting_NS) in enumerate(batches(CURVE, CURVE_STEPS)):
        got, wanted = ours.step(acts, selecting_NS), dense.step(acts, selecting_NS)
        if abs(got - wanted) > CURVE_TOLERANCE * wanted:
            raise RuntimeError(f"step {step}: loss {got} against {wanted} of the dense formulation")


def _time_entry(shape: Shape, target: float | None, rounds: int) -> Entry:
    """Best of `rounds` alternating steps each; the spread is that of the ratios of neighbours."""
    ours, dense = Ours(shape), Dense(shape)
    made = batches(shape, 2)
    times: dict[str, list[float]] = {"ours": [], "dense": []}
    for turn in range(rounds + 1):
        for name, step in (("ours", ours.step), ("dense", dense.step)):
            seconds = _seconds(lambda step=step, turn=turn: step(*made[turn % 2]))
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
        command += ["--batch", str(shape.batch)]
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


def peak_mib(name: str, batch: int) -> float:
    """Growth of this process's peak over two steps, its moments allocated and code compiled."""
    made = {"ours": Ours, "dense": Dense}[name]
    tiny = Shape(num_concepts=256, k=4, batch=8, widths=(8, 8))
    made(tiny).step(*batches(tiny, 1)[0])
    subject, (batch_,) = made(replace(LARGE, batch=batch)), batches(replace(LARGE, batch=batch), 1)
    for parameter in subject.model.parameters():
        subject.optimizer.state[parameter] = {
            "step": torch.zeros(()),
            "exp_avg": torch.full_like(parameter, 0.0),
            "exp_avg_sq": torch.full_like(parameter, 0.0),
        }
        for moment in ("exp_avg", "exp_avg_sq"):
            subject.optimizer.state[parameter][moment].add_(0)  # touch the pages
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2):
        subject.step(*batch_)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> None:
    """Print entries as JSON, or one process's peak."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scan", action="store_true", help="also vary C, K, S and D")
    parser.add_argument("--rounds", type=int, default=5, help="measured steps of each kind")
    parser.add_argument("--peak", choices=["ours", "dense"], help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=LARGE.batch, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak:
        print(peak_mib(given.peak, given.batch))
    else:
        print(json.dumps(entries(given.scan, given.rounds), indent=2))


if __name__ == "__main__":
    main()
