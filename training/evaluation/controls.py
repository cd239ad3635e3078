"""The dictionaries that a run is compared with, each fitted on the same store.

A baseline is the sizes of the run and a complete set of method settings: none of the run's own
method reaches it, and no default of `FitConfig` that may change. A baseline's run is used again
while its configuration and the store are the same.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from training.activations import ActivationStore
from training.checkpoint import CONFIG, load_model
from training.configs import SPARC_AS_PUBLISHED, FitConfig
from training.evaluation.encoding import Dictionary
from training.evaluation.matched import matched
from training.trainer import fit

INHERITED = (
    *("num_concepts", "k", "batch_size", "steps", "epochs", "lr", "seed", "precision"),
    *("validate_every", "checkpoint_every", "log_every"),
)
"""What a baseline takes from the run: sizes, length, seed and book-keeping."""

# The baselines' method settings, in full. A new field of FitConfig that changes the method gets
# its value for each baseline here, and nowhere else.
GLOBAL_WITH_DROPOUT: Mapping[str, Any] = {
    "method": "koine",
    "selection": "global",
    "selector": None,
    "cross_weight": 1.0,
    "stream_dropout": 0.5,
    "standardise": True,
    "shuffle": "rows",
    "warmup": 0.05,
    "decay": 0.2,
    "grad_clip": 1.0,
    "renormalise": "after_step",
    "auxk": None,
    "auxk_weight": 1 / 32,
    "dead_after": 50,
    "resample_every": 50,
    "resample_until": 0.95,
    "reinit_every": None,
    "keep": "best",
}
NO_CROSS: Mapping[str, Any] = {**GLOBAL_WITH_DROPOUT, "cross_weight": 0.0}
LOCAL: Mapping[str, Any] = {**GLOBAL_WITH_DROPOUT, "selection": "local", "stream_dropout": 0.0}
LOCAL_NO_CROSS: Mapping[str, Any] = {**LOCAL, "cross_weight": 0.0}
SPARC: Mapping[str, Any] = {
    **{name: value for name, value in SPARC_AS_PUBLISHED.items() if name != "lr"},
    "selection": "global",
    "cross_weight": 1.0,
    "auxk_weight": 1 / 32,
}


class Baseline(NamedTuple):
    """A dictionary to compare with."""

    title: str
    says: str
    """What comparing with it shows, in words for the report."""
    settings: Mapping[str, Any]
    """The method settings, all of them."""
    separate: bool = False
    """Whether each stream is fitted on its own and its concepts are matched afterwards."""


UNTRAINED_TITLE = "Untrained"
UNTRAINED_SAYS = "the same shape with its random starting weights: what the method gives for free"

CONTROLS: dict[str, Baseline] = {
    "sparc": Baseline(
        "SPARC",
        "the method as published (arXiv 2507.06265), at the run's steps and a learning rate that "
        "fits them (its own, 1e-4, is meant for far longer training)",
        SPARC,
    ),
    "dropout": Baseline(
        "Stream dropout",
        "Global TopK where one random stream selects alone for half of the items",
        GLOBAL_WITH_DROPOUT,
    ),
    "no_cross": Baseline(
        "No cross",
        "the same, but no stream is trained to be rebuilt from another one's codes",
        NO_CROSS,
    ),
    "local": Baseline(
        "Local TopK", "each stream always selects its concepts alone while training", LOCAL
    ),
    "local_no_cross": Baseline(
        "Local, no cross",
        "the streams share nothing but their items and the restarts of dead latents",
        LOCAL_NO_CROSS,
    ),
    "hungarian": Baseline(
        "Separate + Hungarian",
        "each stream's dictionary trained on its own, concepts matched afterwards by how they fire "
        "together on the training rows",
        LOCAL_NO_CROSS,
        separate=True,
    ),
}


def baseline_config(name: str, run: FitConfig) -> FitConfig:
    """A baseline's configuration at the sizes of `run`."""
    inherited = {field: getattr(run, field) for field in INHERITED}
    return FitConfig(**{**inherited, **CONTROLS[name].settings})


def baseline(
    name: str, place: Path, store: ActivationStore, config: FitConfig, device: str | None
) -> Dictionary:
    """The dictionary of a baseline with `config`, fitted into `place` where it is not there yet."""
    if not CONTROLS[name].separate:
        return load_model(fitted(place, store, config, device))
    parts = {}
    for stream in store.streams:
        alone = store.only(stream.name)
        parts[stream.name] = load_model(fitted(place / stream.name, alone, config, device))
    return matched(parts, store)


def fitted(place: Path, store: ActivationStore, config: FitConfig, device: str | None) -> Path:
    """A run directory of `config`, fitted or continued now where it is not finished."""
    if place.is_dir() and not _is_of(place, config, store):
        shutil.rmtree(place)  # an older configuration's or store's: its figures would mislead
    return fit(store, config, place, device=device)


def _is_of(place: Path, wanted: FitConfig, store: ActivationStore) -> bool:
    try:
        found = json.loads((place / CONFIG).read_text())
    except (FileNotFoundError, ValueError):
        return False
    same_config = found.get("fit") == json.loads(json.dumps(dataclasses.asdict(wanted)))
    return same_config and found.get("store_fingerprint") == store.fingerprint
