"""`export`: a finished run becomes an artifact, or nothing; fits nothing."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterator, Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from koine.artifact import Artifact
from koine.encoder import ConceptEncoder
from koine.errors import ExportError
from koine.manifest import Provenance
from koine.sessions import CPU, runtime_version
from koine.streams import Preprocess, StreamSpec, TextPreprocess
from koine.texts import Tokens
from koine.types import ImagesNHWC
from training.activations.store import ActivationStore
from training.checkpoint import RECORD, load_model
from training.encoders.encoder import Encoder
from training.encoders.load import load_encoder
from training.export.artifact import (
    Draft,
    LocaliserDraft,
    ReferenceBatch,
    WriteBackbone,
    staged,
    write_artifact,
)
from training.export.backbone import copy_onnx, export_module
from training.export.head import CodeRule, HeadWeights, SelectorWeights
from training.export.metrics import metrics_summary
from training.export.parity import Parity, check_backbone, check_heads, check_localiser
from training.export.samples import sample_images, sample_texts
from training.localisation.patches import PatchModule, patch_module
from training.model import AlignedDictionary
from training.recipes import RECIPES, Recipe
from training.unit import unit

PARITY_ROWS = 256
"""Held-out items on which the heads are compared."""
PARITY_ITEMS = 64
"""Images or texts on which each backbone is compared."""
PROFILE_ROWS = 65_536
"""Training items that the profile counts, evenly spread where there are more."""
_SAMPLES = 16
"""Images on which each localiser is compared."""
_BATCH = 1024
_LIBRARIES = ("torch", "onnx", "numpy", "timm", "open_clip_torch", "transformers")


class Exported(NamedTuple):
    """What `export` made."""

    artifact: Artifact
    parity: list[Parity]


def export(
    run: Path,
    out: Path,
    *,
    name: str | None = None,
    version: str = "1",
    encoders: Path | None = None,
    store: Path | None = None,
) -> Exported:
    """Exports the dictionary of `run` to the directory `out`, replacing an artifact there.

    `name` defaults to the recipe's, `store` to the one that the run was fitted on; `encoders` is
    the folder of encoder weights. Raises `ExportError` if torch and ONNX Runtime disagree, and
    leaves `out` as it was.
    """
    record = _record(run)
    model = load_model(run)
    acts = ActivationStore.open(store or Path(record["store"]), verify=False)
    _check_store(acts, record, model)
    recipe = record["recipe"] or acts.manifest.plan.recipe
    specs = {spec.name: spec for spec in acts.streams}
    with staged(out) as folder:
        loaded = _load_encoders(specs, recipe, encoders)
        split = _localisers(loaded, specs)
        artifact = write_artifact(
            folder,
            Draft(
                name=name or recipe or "dictionary",
                version=version,
                k=model.config.k,
                method=record["method"],
                shared=model.config.selection == "global",
                specs=specs,
                weights={stream: head_weights(model, stream) for stream in specs},
                rule=code_rule(model),
                backbones={s: backbone_writer(e, specs[s]) for s, e in loaded.items()},
                tokenizers={
                    s: e.tokenizer_file for s, e in loaded.items() if e.tokenizer_file is not None
                },
                localisers={s: d for s, (_, d) in split.items()},
                reference=_reference(acts),
                training=_provenance(record, recipe),
                metrics=metrics_summary(run),
            ),
        )
        parity = _gate(artifact, model, acts, loaded)
        parity += [
            check_localiser(name, module, artifact, _pixels(loaded[name]))
            for name, (module, _) in split.items()
        ]
    return Exported(Artifact.open(out, verify=False), parity)  # hashed when it was written


def head_weights(model: AlignedDictionary, stream: str) -> HeadWeights:
    """A stream's weights out of the torch model."""
    state = {key: value.float().numpy() for key, value in model.of(stream).state_dict().items()}
    if model.config.selector is None:
        return HeadWeights(**state)
    chosen = model.selector_of(stream)
    prototypes_CR = unit(model.prototypes_CR) * chosen.sharpness
    selector = SelectorWeights(
        map_RD=(chosen.map_RP @ chosen.basis_PD).detach().numpy(),
        map_bias_R=chosen.map_bias_R.detach().numpy(),
        prototypes_CR=prototypes_CR.detach().numpy(),
        score_bias_C=chosen.score_bias_C.numpy(),
        pre_code_weight=chosen.pre_code_weight.numpy(),
    )
    return HeadWeights(**state, selector=selector)


def code_rule(model: AlignedDictionary) -> CodeRule | None:
    """How codes follow from pre-codes; None where selection goes by the pre-codes alone."""
    config = model.config.selector
    if config is None:
        return None
    return CodeRule(
        softness=config.softness,
        refinements=config.refinements,
        refine_rate=config.refine_rate,
    )


def backbone_writer(encoder: Encoder, spec: StreamSpec) -> WriteBackbone:
    """Exports the encoder's module, or copies its ONNX file."""
    if encoder.onnx_file is not None:
        return partial(copy_onnx, encoder.onnx_file)
    assert encoder.module is not None
    return partial(export_module, encoder.module, spec)


def _pixels(encoder: Encoder) -> ImagesNHWC:
    batch = encoder.prepare(sample_images(_SAMPLES))
    assert not isinstance(batch, Tokens)
    return batch


def _localisers(
    encoders: Mapping[str, Encoder], specs: Mapping[str, StreamSpec]
) -> dict[str, tuple[PatchModule, LocaliserDraft]]:
    """Of the streams whose pooling splits over patches."""
    found: dict[str, tuple[PatchModule, LocaliserDraft]] = {}
    for name, encoder in encoders.items():
        module = patch_module(encoder)
        if module is not None:
            write = partial(export_module, module, specs[name], output="patches")
            found[name] = module, LocaliserDraft(write, module.side)
    return found


def _record(run: Path) -> dict[str, Any]:
    try:
        return json.loads((run / RECORD).read_bytes())
    except FileNotFoundError:
        raise ExportError(
            f"{run} holds no finished run ({RECORD} is missing); finish "
            "`python -m training fit` there first"
        ) from None
    except ValueError as error:
        raise ExportError(f"{run / RECORD} is damaged ({error}); fit again") from error


def _check_store(
    store: ActivationStore, record: Mapping[str, Any], model: AlignedDictionary
) -> None:
    if store.fingerprint != record["store_fingerprint"]:
        raise ExportError(
            f"the store {store.path} has changed since the run was fitted on it: fingerprint "
            f"{store.fingerprint[:12]}, the run's was {record['store_fingerprint'][:12]}; give the "
            "run's own store with --store, or fit again"
        )
    assert tuple(spec.name for spec in store.streams) == model.streams


def _load_encoders(
    specs: Mapping[str, StreamSpec], recipe: str | None, folder: Path | None
) -> dict[str, Encoder]:
    """Encoders of the streams that have one; each must be the one that made the store."""
    wanted = {name: spec for name, spec in specs.items() if spec.encoder is not None}
    if not wanted:
        return {}
    configured = _recipe(recipe)
    loaded: dict[str, Encoder] = {}
    for name, spec in wanted.items():
        encoder = load_encoder(configured.streams[name], folder or configured.encoders)
        if encoder.identity != spec.encoder or not _same(encoder.preprocess, spec.preprocess):
            raise ExportError(
                f"the encoder of stream `{name}` is not the one that made the store: got "
                f"{encoder.identity} {encoder.preprocess}, the store has {spec.encoder} "
                f"{spec.preprocess}; give its weights by --encoders"
            )
        loaded[name] = encoder
    return loaded


def _same(one: Preprocess, other: Preprocess | None) -> bool:
    """Whether two specs say the same, wherever their tokenizer lies."""
    if isinstance(one, TextPreprocess):
        one = one.model_copy(update={"tokenizer": getattr(other, "tokenizer", None)})
    return one == other


def _recipe(name: str | None) -> Recipe:
    if name is None or name not in RECIPES:
        raise ExportError(
            f"the run names no known recipe (got {name!r}), so its encoders cannot be loaded; "
            f"fit with --recipe, one of {', '.join(sorted(RECIPES))}"
        )
    return RECIPES[name]()


def _reference(store: ActivationStore) -> Iterator[ReferenceBatch]:
    rows = store.split("train")
    if len(rows) > PROFILE_ROWS:
        rows = rows[np.linspace(0, len(rows) - 1, PROFILE_ROWS).astype(np.int64)]
    for start in range(0, len(rows), _BATCH):
        yield ReferenceBatch(*store.gather(rows[start : start + _BATCH]))


def _gate(
    artifact: Artifact,
    model: AlignedDictionary,
    store: ActivationStore,
    encoders: Mapping[str, Encoder],
) -> list[Parity]:
    encoder = ConceptEncoder(artifact, providers=[CPU])
    rows = next(r for s in ("test", "val", "train") if len(r := store.split(s)) > 0)[:PARITY_ROWS]
    batch = store.gather(rows)
    parity = check_heads(model, encoder, ReferenceBatch(*batch))
    captions = [c for row in rows[:PARITY_ITEMS] for c in store.row(int(row)).captions[:1]]
    for name, ours in encoders.items():
        images = ours.modality == "image"
        items = sample_images(PARITY_ITEMS) if images else sample_texts(captions, PARITY_ITEMS)
        parity.append(check_backbone(name, ours, encoder, ours.prepare(items)))
    return parity


def _provenance(record: Mapping[str, Any], recipe: str | None) -> Provenance:
    versions = {name: metadata.version(name) for name in _LIBRARIES}
    return Provenance(
        recipe=recipe,
        seed=record["seed"],
        steps=record["kept_step"],
        store=f"sha256:{record['store_fingerprint']}",
        commit=_commit(),
        versions={
            "python": platform.python_version(),
            "onnxruntime": runtime_version(),
            **versions,
        },
    )


def _commit() -> str | None:
    """Git commit of this code, with `-dirty` after it where files differ; None without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
