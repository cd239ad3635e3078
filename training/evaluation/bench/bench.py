"""The bench itself: every method over its seeds, then the sweeps, as one piece of data."""

from __future__ import annotations

import dataclasses
import logging
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from koine.errors import DataError
from training.activations import ActivationStore
from training.evaluation.bench.lines import lines_of, spread
from training.evaluation.bench.plan import (
    METHODS,
    OWN,
    OWN_SAYS,
    SWEPT,
    BenchConfig,
    Size,
    resized,
    sweep_sizes,
    sweep_weights,
)
from training.evaluation.bench.remember import remembered
from training.evaluation.bench.trials import (
    UNTRAINED,
    Bench,
    Trial,
    chosen_lr,
    dictionary,
    identity,
    measure,
    measured,
    ready,
    trial,
    weighted_trial,
)
from training.evaluation.controls import CONTROLS, UNTRAINED_SAYS, UNTRAINED_TITLE
from training.evaluation.encoding import MODES
from training.evaluation.evaluate import data_facts, open_run
from training.evaluation.figures import MAX_CANDIDATES, rows_of
from training.evaluation.guard import collapse_warnings
from training.evaluation.raw import raw_figures
from training.evaluation.stability import stability
from training.initial import initial_model

SCHEMA = "koine.bench/1"

log = logging.getLogger(__name__)


def bench(
    run: Path,
    out: Path,
    asked: BenchConfig,
    *,
    store_path: Path | None = None,
    verify: bool = True,
    device: str | None = None,
) -> dict[str, Any]:
    """Fit and measure everything `asked` for; what lies in `out` already is used again.

    Raises RequestError for an unfinished run, or sizes or weights that cannot be, DataError where
    the store has changed, has no test rows, or no validation rows to choose a learning rate on.
    """
    started = time.monotonic()
    opened = open_run(run, store_path, verify)
    sizes = list(sweep_sizes(asked, opened.config))
    weights = sweep_weights(asked, opened.config)
    rows = rows_of(opened.store)
    _check(opened.store, asked)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    shared = Bench(out, run, opened.config, opened.store, rows, device)
    methods = {UNTRAINED: _untrained(shared, asked)}
    methods |= {name: _method(shared, asked, name) for name in METHODS}
    modality = {stream.name: stream.modality for stream in opened.store.streams}
    for each in methods.values():
        each["summary"] = _summary([run["figures"] for run in each["runs"]], modality)
    return {
        "schema": SCHEMA,
        "data": data_facts(opened.store, rows),
        "streams": modality,
        "pair_types": pair_types(modality),
        "settings": {
            "num_concepts": opened.config.num_concepts,
            "k": opened.config.k,
            "batch_size": opened.config.batch_size,
            "steps": opened.record["steps"],
            **{name: _listed(value) for name, value in dataclasses.asdict(asked).items()},
        },
        "raw": _raw(shared),
        "methods": {name: methods[name] for name in (*METHODS, UNTRAINED)},
        "sweep": _sweep(shared, asked, sizes, methods, modality),
        "frontier": _frontier(shared, asked, weights, methods[OWN]["lr"]["chosen"], modality),
        "seconds": round(time.monotonic() - started, 1),
    }


def pair_types(modality: dict[str, str]) -> dict[str, list[str]]:
    """Pairs "a|b" by the modalities that they join, such as "image-text"."""
    found: dict[str, list[str]] = {}
    for a, b in combinations(modality, 2):
        kind = "-".join(sorted((modality[a], modality[b])))
        found.setdefault(kind, []).append(f"{a}|{b}")
    return found


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _check(store: ActivationStore, asked: BenchConfig) -> None:
    if not store.label_names:
        log.warning("`%s` has no labels: probes and label figures are left out", store.path)
    if len(asked.lr_grid) > 1 and len(store.split("val")) == 0:
        raise DataError(
            f"`{store.path}` has no `val` rows to choose a learning rate on: "
            "give one learning rate to `--lr-grid`, or extract again with validation rows"
        )


def _method(shared: Bench, asked: BenchConfig, name: str) -> dict[str, Any]:
    says = OWN_SAYS if name == OWN else CONTROLS[name].says
    log.info("%s: %s", name, says)
    own = Size(shared.config.num_concepts, shared.config.k)
    lr = chosen_lr(shared, name, asked.seeds[0], asked.lr_grid)
    trials = [trial(shared, name, own, lr["chosen"], seed) for seed in asked.seeds]
    runs = [{"seed": each.config.seed, "figures": measured(shared, each)} for each in trials]
    stable = remembered(
        shared.out / name / "stability.json",
        [identity(shared, each) for each in trials],
        lambda: stability([dictionary(shared, each) for each in trials]),
    )
    return {
        "title": "Koine (this run)" if name == OWN else CONTROLS[name].title,
        "says": says,
        "config": dataclasses.asdict(trials[0].config),
        "lr": lr,
        "runs": runs,
        "stability": stable,
        "warnings": _warnings(runs[0]["figures"], shared.config.num_concepts),
    }


def _untrained(shared: Bench, asked: BenchConfig) -> dict[str, Any]:
    own = Size(shared.config.num_concepts, shared.config.k)
    configs = [resized(shared.config, own, shared.config.lr, seed) for seed in asked.seeds]
    place = shared.out / UNTRAINED

    def of(config: Any) -> dict[str, Any]:
        return {
            "fit": dataclasses.asdict(config),
            "store_fingerprint": shared.store.fingerprint,
        }

    def model(config: Any) -> Any:
        return ready(initial_model(shared.store, config), shared.device)

    runs = [
        {
            "seed": config.seed,
            "figures": remembered(
                place / f"seed{config.seed}" / "figures.json",
                of(config),
                lambda config=config: measure(shared, model(config), UNTRAINED),
            ),
        }
        for config in configs
    ]
    stable = remembered(
        place / "stability.json",
        [of(config) for config in configs],
        lambda: stability([model(config) for config in configs]),
    )
    return {
        "title": UNTRAINED_TITLE,
        "says": UNTRAINED_SAYS,
        "config": dataclasses.asdict(configs[0]),
        "lr": None,
        "runs": runs,
        "stability": stable,
        "warnings": _warnings(runs[0]["figures"], shared.config.num_concepts),
    }


def _warnings(figures: dict[str, Any], num_concepts: int) -> list[str]:
    return collapse_warnings(figures["independent"], num_concepts)


def _summary(
    runs: list[dict[str, Any]], modality: dict[str, str]
) -> dict[str, dict[str, dict[str, float | None]]]:
    """By mode and line: mean and sample standard deviation over seeds."""
    lines = lines_of(pair_types(modality), runs[0]["independent"])
    return {
        mode: {line.key: spread([line.value(each[mode]) for each in runs]) for line in lines}
        for mode in MODES
    }


def _raw(shared: Bench) -> dict[str, Any]:
    rows = shared.rows
    return remembered(
        shared.out / "raw.json",
        shared.store.fingerprint,
        lambda: raw_figures(shared.store, rows.train, rows.held_out[:MAX_CANDIDATES], rows.probe),
    )


def _sweep(
    shared: Bench,
    asked: BenchConfig,
    sizes: list[Size],
    methods: dict[str, Any],
    modality: dict[str, str],
) -> list[dict[str, Any]]:
    """The swept methods at other sizes and their own learning rates; the run's size among them."""
    own = Size(shared.config.num_concepts, shared.config.k)
    seeds = asked.seeds[: asked.sweep_seeds]
    found = []
    for size in sorted([own, *sizes]) if sizes else ():
        for name in SWEPT:
            lr = methods[name]["lr"]["chosen"]
            trials = [trial(shared, name, size, lr, seed) for seed in seeds]
            entry = {"method": name, **size._asdict()}
            found.append(entry | _over_seeds(shared, trials, modality))
    return found


def _frontier(
    shared: Bench,
    asked: BenchConfig,
    weights: list[float],
    lr: float,
    modality: dict[str, str],
) -> list[dict[str, Any]]:
    """The own method at each weight of pre-codes: the place it takes on the border between
    agreement and reconstruction."""
    seeds = asked.seeds[: asked.sweep_seeds]
    found = []
    for weight in weights:
        trials = [weighted_trial(shared, weight, lr, seed) for seed in seeds]
        found.append({"pre_code_weight": weight} | _over_seeds(shared, trials, modality))
    return found


def _over_seeds(shared: Bench, trials: list[Trial], modality: dict[str, str]) -> dict[str, Any]:
    """What a point of a sweep shows: trials that differ in their seeds alone."""
    runs = [measured(shared, each) for each in trials]
    config = trials[0].config
    return {
        "lr": config.lr,
        "seeds": [each.config.seed for each in trials],
        "summary": _summary(runs, modality),
        "warnings": _warnings(runs[0], config.num_concepts),
    }
