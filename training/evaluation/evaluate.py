"""A run directory → its report, as data; draws nothing."""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from koine.errors import DataError, RequestError
from koine.types import Mode
from training.activations import ActivationStore
from training.checkpoint import CONFIG, RECORD, load_model, shown
from training.configs import FitConfig
from training.evaluation.controls import CONTROLS, baseline, baseline_config
from training.evaluation.encoding import Dictionary
from training.evaluation.figures import MAX_CANDIDATES, Rows, figures, rows_of
from training.evaluation.poc import PocConfig, add_poc, prepared
from training.evaluation.raw import raw_figures
from training.initial import initial_model
from training.model import AlignedDictionary
from training.progress import progress

SCHEMA = "koine.report/1"
NOTHING_GIVEN = PocConfig()

log = logging.getLogger(__name__)


def evaluate(
    run: Path,
    *,
    controls: bool = False,
    store_path: Path | None = None,
    verify: bool = True,
    device: str | None = None,
    poc: PocConfig = NOTHING_GIVEN,
) -> dict[str, Any]:
    """Measure a finished run on its store's held-out rows; keys in docs/report.md.

    The untrained control is always measured; `controls` fits and measures the others too.
    `store_path`: where the run's store lies now, if it has moved.
    Raises RequestError for an unfinished run or an unknown threshold, DataError where the store
    has changed since or has no test rows, or where names or artifact are another run's.
    """
    started = time.monotonic()
    record, config, store = open_run(run, store_path, verify)
    rows = rows_of(store)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = load_model(run)
    given = prepared(run, record["recipe"], model.config, store, poc)
    held = _held(store)
    measured = _measure(model, store, rows, device, "evaluate")
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "date": datetime.now(UTC).date().isoformat(),
        "dictionary": _dictionary(run, record, config, model, store),
        "data": data_facts(store, rows),
        **measured,
        "raw": raw_figures(held, rows.train, rows.held_out[:MAX_CANDIDATES], rows.probe),
        "controls": {
            "untrained": _main(
                _measure(initial_model(held, config), held, rows, device, "untrained")
            )
        },
    }
    for name in CONTROLS if controls else ():
        log.info("control `%s`: %s", name, CONTROLS[name].says)
        wanted = baseline_config(name, config)
        control = baseline(name, run / "controls" / name, store, wanted, device)
        report["controls"][name] = _main(_measure(control, store, rows, device, name))
    add_poc(report, record, model, store, rows, given)
    report["seconds"] = round(time.monotonic() - started, 1)
    return report


def _held(store: ActivationStore) -> ActivationStore:
    """Without the streams that an extended dictionary has and the store lacks in all rows."""
    names = {spec.name for spec in store.manifest.plan.streams}
    return store.showing([spec for spec in store.streams if spec.name in names])


class OpenRun(NamedTuple):
    """A finished run and the store that it was fitted on."""

    record: dict[str, Any]
    config: FitConfig
    store: ActivationStore


def open_run(run: Path, store_path: Path | None, verify: bool) -> OpenRun:
    """Raises RequestError for an unfinished run, DataError where the store has gone, has changed
    or has no test rows."""
    record, config = read_run(run)
    store = open_store(store_path or Path(record["store"]), record, verify)
    if len(store.split("test")) == 0:
        raise DataError(
            f"`{store.path}` has no `test` rows to evaluate on: "
            "extract it again from a source (or with `--split`) that holds some out"
        )
    return OpenRun(record, config, store)


def _measure(
    model: Dictionary, store: ActivationStore, rows: Rows, device: str, what: str
) -> dict[Mode, dict[str, Any]]:
    with progress(len(rows.train) + len(rows.held_out), what) as bar:
        assert isinstance(model, nn.Module)
        return figures(model.to(device).eval(), store, rows, bar)


def _main(measured: dict[Mode, dict[str, Any]]) -> dict[Mode, dict[str, Any]]:
    """A control's figures: all but the lists label by label."""
    for figures_of_mode in measured.values():
        for recovery in (figures_of_mode["label_recovery"] or {}).values():
            del recovery["labels"]
    return measured


def read_run(run: Path) -> tuple[dict[str, Any], FitConfig]:
    for name in (RECORD, CONFIG):
        if not (run / name).is_file():
            raise RequestError(
                f"`{run}` is no finished run (`{name}` is missing): "
                f"run `python -m training fit --out {run}` to its end first"
            )
    record = json.loads((run / RECORD).read_text())
    return record, FitConfig.from_json(json.loads((run / CONFIG).read_text())["fit"])


def open_store(path: Path, record: dict[str, Any], verify: bool) -> ActivationStore:
    if not path.is_dir():
        raise DataError(
            f"the run's activation store `{path}` is not there: "
            "put it back, or say with `--store` where it is"
        )
    store = ActivationStore.open(path, verify=verify)
    if store.fingerprint != record["store_fingerprint"]:
        raise DataError(
            f"`{path}` is not the store that the run was fitted on: its fingerprint is "
            f"{store.fingerprint[:12]}, not {record['store_fingerprint'][:12]}. "
            "Put the former store back, or fit again on this one"
        )
    return shown(store, record)


def _dictionary(
    run: Path,
    record: dict[str, Any],
    config: FitConfig,
    model: AlignedDictionary,
    store: ActivationStore,
) -> dict[str, Any]:
    specs = {stream.name: stream for stream in store.streams}
    return {
        "run": "/".join(run.resolve().parts[-2:]),
        "recipe": record["recipe"],
        "method": config.method,
        "selection": config.selection,
        "cross_weight": config.cross_weight,
        "num_concepts": model.config.num_concepts,
        "k": model.config.k,
        "streams": {
            name: {
                "modality": specs[name].modality,
                "d_in": specs[name].d_in,
                "encoder": encoder.name if (encoder := specs[name].encoder) else None,
            }
            for name in model.streams
        },
        "seed": config.seed,
        "steps": record["steps"],
        "kept_step": record["kept_step"],
        "fit_seconds": record["seconds"],
    }


def data_facts(store: ActivationStore, rows: Rows) -> dict[str, Any]:
    """A report's `data`: which rows were judged on."""
    return {
        "store": store.path.name,
        "store_fingerprint": store.fingerprint,
        "rows": {split: len(store.split(split)) for split in ("train", "val", "test")},
        "held_out": "test",
        "held_out_rows": len(rows.held_out),
        "present": {
            stream.name: int((store.counts(stream.name)[rows.held_out] > 0).sum())
            for stream in store.streams
        },
        "captions": "first",
        "labels": len(store.label_names),
        "retrieval_candidates": min(MAX_CANDIDATES, len(rows.held_out)),
    }
