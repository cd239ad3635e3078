"""`extend`: a finished run and a store with a new stream → a run with that stream as well.

Everything that was there stays as it is, to the bit. Knows no equation: those stand in
`closed.py` and `distil.py`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from koine.artifact import Artifact, is_artifact, sha256_file
from koine.errors import DataError, RequestError
from koine.manifest import Lineage
from koine.streams import StreamSpec
from training import checkpoint
from training.activations.manifest import read_manifest
from training.activations.rows import SPLITS
from training.activations.store import ActivationStore
from training.configs import FitConfig
from training.extension.closed import fit_closed, set_statistics
from training.extension.config import ExtendConfig
from training.extension.distil import Distiller
from training.extension.judge import Judge
from training.extension.pairs import Pairs, check_streams, draw_pairs
from training.model import AlignedDictionary


def extend(parent: Path, store: ActivationStore, config: ExtendConfig, run: Path) -> Path:
    """Fit the stream that `config` names onto the dictionary of `parent`, resuming what is there.

    Raises RequestError where `parent` is no finished run, DataError where the store does not
    pair, TrainingError where `run` holds another run. A finished one is left as it is.
    """
    record, fit = _finished(parent)
    specs = check_streams(parent_specs(record), store, config.stream)
    store = store.showing(specs)
    pairs = draw_pairs(store, config)
    lineage = lineage_of(parent, store, config, pairs)
    identity = {
        "fit": asdict(fit),
        "recipe": record["recipe"] or store.manifest.plan.recipe,
        "store_fingerprint": store.fingerprint,
        "extension": {**asdict(config), "parent": lineage.parent},
    }
    with checkpoint.claimed(run, identity):
        if not (run / checkpoint.RECORD).is_file():
            _fit(parent, store, fit, config, pairs, run, _record(record, lineage, identity, store))
    return run


def parent_specs(record: Mapping[str, Any]) -> Sequence[StreamSpec]:
    """The streams of a finished run; DataError where its store is gone and nothing else says."""
    if "specs" in record:
        return [StreamSpec.model_validate(spec) for spec in record["specs"]]
    path = Path(record["store"])
    if not path.is_dir():
        raise DataError(
            f"the run's activation store `{path}`, which says what its streams are, is not "
            "there: put it back"
        )
    return read_manifest(path).plan.streams


def lineage_of(parent: Path, store: ActivationStore, config: ExtendConfig, pairs: Pairs) -> Lineage:
    """What the extended dictionary says of its origin."""
    artifact = parent / "artifact"
    return Lineage(
        parent=f"sha256:{sha256_file(parent / checkpoint.MODEL)}",
        artifact=(
            f"sha256:{Artifact.open(artifact, verify=False).digest}"
            if is_artifact(artifact)
            else None
        ),
        stream=config.stream,
        pairs=pairs.count,
        store=f"sha256:{store.fingerprint}",
    )


def extended_model(parent: AlignedDictionary, stream: str, d_in: int) -> AlignedDictionary:
    """The parent's weights, and a stream after its own that is not fitted yet."""
    widths = {name: parent.of(name).encoder_CD.shape[1] for name in parent.streams}
    model = AlignedDictionary(parent.config, {**widths, stream: d_in})
    model.load_state_dict(parent.state_dict(), strict=False)
    return model.eval()


def _fit(
    parent: Path,
    store: ActivationStore,
    fit: FitConfig,
    config: ExtendConfig,
    pairs: Pairs,
    run: Path,
    record: dict[str, Any],
) -> None:
    started = time.monotonic()
    torch.manual_seed(config.seed)
    before = checkpoint.load_model(parent)
    width = next(spec.d_in for spec in store.streams if spec.name == config.stream)
    model = extended_model(before, config.stream, width)
    set_statistics(model, store, config.stream, pairs.fit)
    judge = Judge(model, store, config.stream, pairs.choose)  # reads the normalised pairs
    penalties: dict[str, float] | None = None
    if not (run / checkpoint.CHECKPOINT).is_file():
        penalties = fit_closed(model, store, config, pairs.fit, judge)
        checkpoint.write_json(run / PENALTIES, penalties)
    distiller = Distiller(model, store, fit, config, pairs.fit, run)
    distiller.run_to_end(judge)
    kept = checkpoint.load_model(run)
    _assert_frozen(before.state_dict(), kept.state_dict())
    record |= {
        "penalties": json.loads((run / PENALTIES).read_text()),
        "choose": judge.look(kept)._asdict(),
        "steps": config.steps,
        "kept_step": distiller.best.step,
        "seconds": round(time.monotonic() - started, 1),
    }
    checkpoint.write_json(run / checkpoint.RECORD, record)


PENALTIES = "penalties.json"
"""Those chosen for the closed forms, beside the run's other files."""


def _assert_frozen(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
    changed = [name for name, tensor in before.items() if not torch.equal(tensor, after[name])]
    assert not changed, f"frozen weights moved: {', '.join(changed)}"


def _record(
    parent: Mapping[str, Any],
    lineage: Lineage,
    identity: Mapping[str, Any],
    store: ActivationStore,
) -> dict[str, Any]:
    return {
        "schema": "koine.fit/1",
        "recipe": identity["recipe"],
        "method": parent["method"],
        "seed": identity["extension"]["seed"],
        "store": str(store.path.resolve()),
        "store_fingerprint": store.fingerprint,
        "rows": {split: len(store.split(split)) for split in SPLITS},
        "lineage": lineage.model_dump(),
        "specs": [spec.model_dump(mode="json") for spec in store.streams],
        "parent_store": parent["store"],
    }


def _finished(parent: Path) -> tuple[dict[str, Any], FitConfig]:
    for name in (checkpoint.RECORD, checkpoint.CONFIG, checkpoint.MODEL):
        if not (parent / name).is_file():
            raise RequestError(
                f"`{parent}` is no finished run (`{name}` is missing): only a dictionary whose "
                "fit has ended can be extended; run `python -m training fit` there to its end"
            )
    record = json.loads((parent / checkpoint.RECORD).read_text())
    config = json.loads((parent / checkpoint.CONFIG).read_text())
    return record, FitConfig.from_json(config["fit"])
