"""What it costs to train, store and encode: measured here and now, or said to be unknown.

No price is invented: only a price per core hour that was given is multiplied.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from koine.artifact import Artifact
from koine.errors import DataError, RequestError
from koine.manifest import MANIFEST
from training.activations import ActivationStore
from training.evaluation.speed import BATCH, speed
from training.model import ModelConfig

FOLDER = "artifact"
CODE_BYTES = 8
"""An active concept as the service packs it: an int32 index and a float32 value."""
MILLION = 1_000_000


def check_price(price_per_core_hour: float | None) -> None:
    """RequestError for a price that is none."""
    if price_per_core_hour is not None and not 0 < price_per_core_hour < float("inf"):
        raise RequestError(f"`--price-per-core-hour` must be above 0, got {price_per_core_hour:g}")


def known_artifact(
    path: Path, store: ActivationStore, model: ModelConfig, *, needed: bool
) -> Artifact | None:
    """The run's artifact; None where there is none and it is not `needed`.

    Raises DataError where it is another run's, ArtifactError where it is damaged.
    """
    if not (path / MANIFEST).is_file():
        if needed:
            raise DataError(f"`{path}` is no artifact: give the directory that `export` wrote")
        return None
    artifact = Artifact.open(path, verify=False)
    manifest = artifact.manifest
    same = manifest.training.store == f"sha256:{store.fingerprint}"
    if not same or (manifest.num_concepts, manifest.k) != (model.num_concepts, model.k):
        raise DataError(
            f"the artifact `{path}` ({manifest.title}) was not exported from this run: export the "
            "run again, or say with `--artifact` where its artifact is"
        )
    return artifact


def cost(
    record: dict[str, Any],
    store: ActivationStore,
    model: ModelConfig,
    artifact: Artifact | None,
    captions: Sequence[str],
    price_per_core_hour: float | None,
) -> dict[str, Any]:
    """The report's `cost`; an artifact is timed where there is one."""
    machine = {"cpu": _cpu(), "cores": _cores(), "load": round(os.getloadavg()[0], 1)}
    served = _served(artifact, captions) if artifact else None
    return {
        "machine": machine,
        "training": {"seconds": record["seconds"], "steps": record["steps"]},
        "served": served,
        "storage": {
            "codes_bytes_per_item": model.k * CODE_BYTES,
            "store_bytes_per_item": _store_bytes(store) / max(1, len(store)),
        },
        "price": served and _price(served, machine["cores"], price_per_core_hour),
    }


def _served(artifact: Artifact, captions: Sequence[str]) -> dict[str, Any]:
    # a fresh process: the memory of this one, torch and all, is not what serving takes
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        measured = pool.submit(speed, artifact.path, list(captions)).result()
    return {
        "name": artifact.manifest.title,
        "bytes": sum(entry.bytes for entry in artifact.manifest.files.values()),
        "batch": BATCH,
        **measured._asdict(),
    }


def _price(
    served: dict[str, Any], cores: int, price_per_core_hour: float | None
) -> dict[str, Any] | None:
    if price_per_core_hour is None:
        return None
    hours = {
        name: MILLION / rate / 3600 * cores for name, rate in served["items_per_second"].items()
    }
    return {
        "per_core_hour": price_per_core_hour,
        "core_hours_per_million": hours,
        "per_million": {name: price_per_core_hour * each for name, each in hours.items()},
    }


def _store_bytes(store: ActivationStore) -> int:
    files = [file for shard in store.manifest.shards for file in shard.files.values()]
    return sum(file.bytes for file in (*files, *store.manifest.files.values()))


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def _cpu() -> str:
    """The processor's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, None) or platform.processor() or platform.machine()
