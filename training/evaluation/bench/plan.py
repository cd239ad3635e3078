"""What a bench fits: methods, seeds, learning rates and sizes, as frozen data; runs nothing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from koine.errors import RequestError
from training.configs import FitConfig
from training.evaluation.controls import CONTROLS, baseline_config

OWN = "koine"
OWN_SAYS = "the run's own configuration"
METHODS: tuple[str, ...] = (OWN, *CONTROLS)
"""Fitted ones, in the order in which they are shown."""
SWEPT: tuple[str, ...] = (OWN, "sparc", "local")
LR_GRID = (5e-4, 1e-3, 2e-3, 4e-3)


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchConfig:
    """What is asked of a bench. RequestError for values that cannot be."""

    seeds: tuple[int, ...]
    """Each method is fitted once with each; spreads are over them."""
    lr_grid: tuple[float, ...] = LR_GRID
    """Each method is fitted with each at the first seed; the best on validation is its own."""
    sweep_k: tuple[int, ...] = ()
    """Other values of k, at the run's number of concepts."""
    sweep_num_concepts: tuple[int, ...] = ()
    """Other numbers of concepts, at the run's k."""
    sweep_pre_code_weight: tuple[float, ...] = ()
    """Other weights of pre-codes in the own method's selector, at the run's sizes."""
    sweep_seeds: int = 1
    """How many of the seeds the sweeps take."""

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise RequestError(
                f"`--seeds` needs one seed or more, each once; got {list(self.seeds)}"
            )
        if not self.lr_grid or min(self.lr_grid) <= 0:
            raise RequestError(
                f"`--lr-grid` needs one positive learning rate or more; got {list(self.lr_grid)}"
            )
        if not 1 <= self.sweep_seeds <= len(self.seeds):
            raise RequestError(
                f"`--sweep-seeds` must be from 1 to the {len(self.seeds)} seeds of `--seeds`; "
                f"got {self.sweep_seeds}"
            )
        if not all(0 <= weight < math.inf for weight in self.sweep_pre_code_weight):
            raise RequestError(
                "`--sweep-pre-code-weight` needs finite weights, 0 or more; "
                f"got {list(self.sweep_pre_code_weight)}"
            )


class Size(NamedTuple):
    """A dictionary's shape."""

    num_concepts: int
    k: int


def method_config(method: str, run: FitConfig) -> FitConfig:
    """A method's configuration at the run's sizes."""
    return run if method == OWN else baseline_config(method, run)


def resized(run: FitConfig, size: Size, lr: float, seed: int) -> FitConfig:
    """The run's configuration with another shape, learning rate and seed."""
    return dataclasses.replace(run, num_concepts=size.num_concepts, k=size.k, lr=lr, seed=seed)


def sweep_sizes(bench: BenchConfig, run: FitConfig) -> Iterator[Size]:
    """The shapes of the sweeps, but the run's own; RequestError where k is too large."""
    own = Size(run.num_concepts, run.k)
    sizes = [Size(run.num_concepts, k) for k in bench.sweep_k]
    sizes += [Size(count, run.k) for count in bench.sweep_num_concepts]
    for size in dict.fromkeys(sizes):
        if not 1 <= size.k <= size.num_concepts:
            raise RequestError(
                f"a sweep asks for k {size.k} of {size.num_concepts} concepts: "
                "k must lie between 1 and their number"
            )
        if size != own:
            yield size


def reweighted(run: FitConfig, weight: float) -> FitConfig:
    """The run's configuration with another weight of pre-codes in its selector."""
    assert run.selector is not None
    selector = dataclasses.replace(run.selector, pre_code_weight=weight)
    return dataclasses.replace(run, selector=selector)


def sweep_weights(bench: BenchConfig, run: FitConfig) -> list[float]:
    """The pre-code weights to compare, sorted, the run's own among them; none if none is asked for.

    Raises RequestError where the run has no selector to weigh pre-codes in.
    """
    if not bench.sweep_pre_code_weight:
        return []
    if run.selector is None:
        raise RequestError(
            "`--sweep-pre-code-weight` was given, but the run's streams select by their pre-codes "
            "alone: bench a run that was fitted with `--selector shared`, or leave the flag out"
        )
    return sorted({run.selector.pre_code_weight, *bench.sweep_pre_code_weight})
