"""The dictionaries that a run is compared with, each fitted on the same store.

A control's run lies in RUN/controls/<name> and is used again while its configuration and the
store are the same.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from training.activations import ActivationStore
from training.checkpoint import CONFIG
from training.configs import SPARC_AS_PUBLISHED, FitConfig
from training.trainer import fit


class Control(NamedTuple):
    """What a control changes of the run's configuration."""

    title: str
    says: str
    """What comparing with it shows, in words for the report."""
    changed: Callable[[FitConfig], FitConfig]


def _sparc(config: FitConfig) -> FitConfig:
    published: dict[str, Any] = SPARC_AS_PUBLISHED | {"lr": config.lr}
    return dataclasses.replace(
        config, **published, selection="global", cross_weight=1.0, auxk_weight=1 / 32
    )


UNTRAINED_TITLE = "Untrained"
UNTRAINED_SAYS = "the same shape with its random starting weights: what the method gives for free"

CONTROLS: dict[str, Control] = {
    "local": Control(
        "Local TopK",
        "each stream always selects its concepts alone while training",
        lambda config: dataclasses.replace(config, selection="local"),
    ),
    "no_cross": Control(
        "No cross",
        "no stream is trained to be rebuilt from another one's codes",
        lambda config: dataclasses.replace(config, cross_weight=0.0),
    ),
    "sparc": Control(
        "SPARC",
        "the method as published (arXiv 2507.06265), at this run's steps and learning rate "
        "(its own, 1e-4, is meant for far longer training)",
        _sparc,
    ),
}


def fitted(
    name: str, run: Path, store: ActivationStore, config: FitConfig, device: str | None
) -> Path:
    """The run directory of a control, fitted now where it is not there yet."""
    wanted = CONTROLS[name].changed(config)
    place = run / "controls" / name
    if place.is_dir() and not _is_of(place, wanted, store):
        shutil.rmtree(place)  # an older configuration's or store's: its figures would mislead
    return fit(store, wanted, place, device=device)


def _is_of(place: Path, wanted: FitConfig, store: ActivationStore) -> bool:
    try:
        found = json.loads((place / CONFIG).read_text())
    except (FileNotFoundError, ValueError):
        return False
    same_config = found.get("fit") == json.loads(json.dumps(dataclasses.asdict(wanted)))
    return same_config and found.get("store_fingerprint") == store.fingerprint
