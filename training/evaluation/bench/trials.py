"""One method at one size, learning rate and seed: fitted, measured, and remembered."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from koine.errors import DataError
from training.activations import ActivationStore
from training.checkpoint import load_model
from training.configs import FitConfig
from training.evaluation.bench.plan import OWN, Size, method_config, resized, reweighted
from training.evaluation.bench.remember import remembered
from training.evaluation.controls import baseline, fitted
from training.evaluation.encoding import MODES, Dictionary, encoded
from training.evaluation.figures import Rows, add_reconstructions, figures
from training.evaluation.reconstruction import Reconstruction
from training.progress import progress

UNTRAINED = "untrained"


class Bench(NamedTuple):
    """What every trial shares."""

    out: Path
    run: Path
    """The run whose own method and sizes are benched; used itself where a trial equals it."""
    config: FitConfig
    """The run's."""
    store: ActivationStore
    rows: Rows
    device: str


class Trial(NamedTuple):
    """A method's fit at one size, learning rate and seed."""

    method: str
    config: FitConfig
    place: Path


def trial(bench: Bench, method: str, size: Size, lr: float, seed: int) -> Trial:
    """Where a trial lies: OUT/METHOD/lrLR/seedSEED, sweeps below OUT/sweep/cC-kK."""
    own = Size(bench.config.num_concepts, bench.config.k)
    root = bench.out if size == own else bench.out / "sweep" / f"c{size.num_concepts}-k{size.k}"
    config = method_config(method, resized(bench.config, size, lr, seed))
    return _placed(root, method, config)


def weighted_trial(bench: Bench, weight: float, lr: float, seed: int) -> Trial:
    """The own method with a weight of pre-codes, below OUT/sweep/wWEIGHT where it is another."""
    run = reweighted(bench.config, weight)
    root = bench.out if run == bench.config else bench.out / "sweep" / f"w{weight:g}"
    return _placed(root, OWN, dataclasses.replace(run, lr=lr, seed=seed))


def _placed(root: Path, method: str, config: FitConfig) -> Trial:
    return Trial(method, config, root / method / f"lr{config.lr:g}" / f"seed{config.seed}")


def dictionary(bench: Bench, trial: Trial) -> Dictionary:
    """The trial's dictionary, fitted now where it is not there yet."""
    if trial.method != OWN:
        found = baseline(trial.method, trial.place, bench.store, trial.config, bench.device)
    elif trial.config == bench.config:
        found = load_model(bench.run)
    else:
        found = load_model(fitted(trial.place, bench.store, trial.config, bench.device))
    return ready(found, bench.device)


def ready(model: Dictionary, device: str) -> Dictionary:
    """On its device, in evaluation mode."""
    assert isinstance(model, nn.Module)
    model.to(device).eval()
    return model


def measured(bench: Bench, trial: Trial) -> dict[str, Any]:
    """`joint` and `independent` figures of a trial."""
    return remembered(
        trial.place / "figures.json",
        identity(bench, trial),
        lambda: measure(bench, dictionary(bench, trial), f"{trial.method} {trial.config.seed}"),
    )


def measure(bench: Bench, model: Dictionary, what: str) -> dict[str, Any]:
    """Figures of a dictionary, but for the lists label by label."""
    with progress(len(bench.rows.train) + len(bench.rows.held_out), f"measure {what}") as bar:
        found = figures(model, bench.store, bench.rows, bar)
    for each in found.values():
        for recovery in (each["label_recovery"] or {}).values():
            del recovery["labels"]
    return {mode: found[mode] for mode in MODES}


def identity(bench: Bench, trial: Trial) -> dict[str, Any]:
    """What a trial's figures depend on."""
    return {
        "method": trial.method,
        "fit": dataclasses.asdict(trial.config),
        "store_fingerprint": bench.store.fingerprint,
    }


def validation_fvu(bench: Bench, trial: Trial) -> float:
    """Mean of own-stream and cross-stream FVU on the validation rows, independent encoding."""
    return remembered(
        trial.place / "validation.json",
        identity(bench, trial),
        lambda: _validation_fvu(bench, dictionary(bench, trial)),
    )


def _validation_fvu(bench: Bench, model: Dictionary) -> float:
    rows_N = bench.store.split("val")
    if len(rows_N) == 0:
        raise DataError(
            f"`{bench.store.path}` has no `val` rows to choose a learning rate on: "
            "give one learning rate to `--lr-grid`, or extract again with validation rows"
        )
    widths = {stream.name: stream.d_in for stream in bench.store.streams}
    sums = Reconstruction({name: widths[name] for name in model.streams})
    for batch in encoded(model, bench.store, rows_N):
        add_reconstructions(sums, model, batch, "independent")
    fvu = {tuple(key.split("->")): value for key, value in sums.fvu().items() if value is not None}
    own = [value for (a, b), value in fvu.items() if a == b]
    cross = [value for (a, b), value in fvu.items() if a != b]
    return float(np.mean([np.mean(each) for each in (own, cross) if each]))


def chosen_lr(bench: Bench, method: str, seed: int, grid: tuple[float, ...]) -> dict[str, Any]:
    """`chosen`: the learning rate best on validation at one seed; `tried`: FVU of each."""
    if len(grid) == 1:
        return {"chosen": grid[0], "tried": {}}
    own = Size(bench.config.num_concepts, bench.config.k)
    tried = {lr: validation_fvu(bench, trial(bench, method, own, lr, seed)) for lr in grid}
    chosen = min(tried, key=lambda lr: tried[lr])
    return {"chosen": chosen, "tried": {f"{lr:g}": fvu for lr, fvu in tried.items()}}
