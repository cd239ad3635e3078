"""A published dictionary becomes a run that evaluates and exports; fits nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch

from koine.artifact import sha256_file
from koine.errors import CheckpointError, RequestError
from training import checkpoint as files
from training.activations.store import ActivationStore
from training.initial import initial_model
from training.interchange.sparc import Published, read_published
from training.model import AlignedDictionary


def adopt(
    checkpoint: Path,
    store: ActivationStore,
    run: Path,
    *,
    run_config: Path | None = None,
    names: Mapping[str, str] | None = None,
) -> Path:
    """Writes the dictionary of SPARC's `checkpoint` as a finished run on `store`.

    `names`: stream of the store → the checkpoint's, where they differ. The store gives what the
    checkpoint lacks: each stream's mean, which fvu is measured against. A run that was adopted
    from the same files is left as it is. Raises `CheckpointError` where the streams or their
    widths are not the store's, and `RequestError` for `names` of no stream.
    """
    published = read_published(checkpoint, run_config)
    theirs = _matched(checkpoint, published, store, names or {})
    identity = {
        "fit": asdict(published.config),
        "recipe": None,
        "store_fingerprint": store.fingerprint,
        "adopted": {"checkpoint": f"sha256:{sha256_file(checkpoint)}", "streams": theirs},
    }
    with files.claimed(run, identity):
        if not (run / files.RECORD).is_file():
            _write(run, _model(published, store, theirs), published, store, identity)
    return run


def _matched(
    path: Path, published: Published, store: ActivationStore, names: Mapping[str, str]
) -> dict[str, str]:
    """Stream of the store → the checkpoint's; each is there once and as wide."""
    widths = {spec.name: spec.d_in for spec in store.streams}
    strange = [name for name in names if name not in widths]
    if strange:
        raise RequestError(
            f"--stream names {strange[0]!r}, which the store does not have; it has "
            f"{', '.join(widths)}"
        )
    theirs = {name: names.get(name, name) for name in widths}
    lacks = [name for name in theirs.values() if name not in published.streams]
    left = sorted(published.streams.keys() - set(theirs.values()))
    if lacks or left or len(set(theirs.values())) < len(theirs):
        raise CheckpointError(
            f"{path} has the streams {', '.join(published.streams)}, the store "
            f"{', '.join(widths)}; they must be the same: name those that differ with "
            "`--stream STORE=CHECKPOINT`, or import the missing ones"
        )
    for name, other in theirs.items():
        got = published.streams[other].encoder_CD.shape[1]
        if got != widths[name]:
            raise CheckpointError(
                f"stream `{name}` is {widths[name]} wide in the store, `{other}` of {path} takes "
                f"{got}: the store's encoder is another one"
            )
    return theirs


def _model(
    published: Published, store: ActivationStore, theirs: Mapping[str, str]
) -> AlignedDictionary:
    model = initial_model(store, published.config)
    with torch.no_grad():
        for name, other in theirs.items():
            stream, weights = model.of(name), published.streams[other]
            stream.encoder_CD.copy_(weights.encoder_CD)
            stream.dictionary_CD.copy_(weights.decoder_DC.T)
            stream.pre_bias_D.copy_(weights.pre_bias_D)
            stream.latent_bias_C.copy_(weights.latent_bias_C)
    return model


def _write(
    run: Path,
    model: AlignedDictionary,
    published: Published,
    store: ActivationStore,
    identity: Mapping[str, object],
) -> None:
    files.save_model(run, model, 0)
    record = {
        "schema": "koine.fit/1",
        "recipe": None,
        "method": published.config.method,
        "seed": published.config.seed,
        "store": str(store.path.resolve()),
        "store_fingerprint": store.fingerprint,
        "rows": {split: len(store.split(split)) for split in ("train", "val", "test")},
        "steps": None,
        "kept_step": None,
        "seconds": None,
        "adopted": identity["adopted"],
    }
    files.write_json(run / files.RECORD, record)
