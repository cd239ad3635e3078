"""`export`: a finished run becomes an artifact, or nothing; fits nothing."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from koine.artifact import Artifact
from koine.concepts import read_concepts
from koine.encoder import ConceptEncoder
from koine.errors import ExportError
from koine.manifest import CONCEPTS, PROFILE, Lineage, Provenance
from koine.profile import read_profile
from koine.sessions import CPU, runtime_version
from koine.streams import Preprocess, StreamSpec, TextPreprocess
from koine.types import ActsND
from training.activations.rows import Split
from training.activations.store import ActivationStore
from training.checkpoint import RECORD, load_model, shown
from training.distillation.students import read_students
from training.encoders.encoder import Encoder
from training.encoders.load import load_encoder
from training.export.artifact import (
    Draft,
    ReferenceBatch,
    WriteBackbone,
    staged,
    write_artifact,
    write_manifest,
)
from training.export.backbone import copy_onnx, export_module
from training.export.comparison import Comparison
from training.export.examples import Examples, held_out, source_of
from training.export.head import CodeRule, HeadWeights, SelectorWeights
from training.export.localisers import check_localisers, localisable
from training.export.metrics import metrics_summary
from training.export.parity import Parity, check_backbone, check_heads
from training.export.precision import (
    STORAGE,
    Lowering,
    PrecisionConfig,
    one_stream,
    profile_batches,
)
from training.export.samples import sample_images, sample_texts
from training.model import AlignedDictionary
from training.naming.names import read_names
from training.recipes import RECIPES, Recipe
from training.unit import unit

PARITY_ROWS = 256
"""Held-out items on which the heads are compared."""
PARITY_ITEMS = 64
"""Images or texts on which each backbone is compared."""
HELD_OUT: Sequence[Split] = ("val", "test")
PROFILE_ROWS = 65_536
"""Training items that the profile counts, evenly spread where there are more."""
CAPTION_SEED = 0
"""Of the choice among an item's captions."""
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
    names: Path | None = None,
    precision: PrecisionConfig | None = None,
    data: Path | None = None,
    source: str | None = None,
    localisers: bool = False,
) -> Exported:
    """Exports the dictionary of `run` to the directory `out`, replacing an artifact there.

    `name` defaults to the recipe's, `store` to the one that the run was fitted on; `encoders` is
    the folder of encoder weights, `names` that of names (RUN/names where there are some).
    `precision` makes the graphs smaller, measured on items of the `data` that the store was
    extracted from (laid out as `source` says, or the recipe). `localisers`: also graphs that say
    where in an image a concept lies. Raises `ExportError` if torch and
    ONNX Runtime disagree, or the smaller graphs and float32, or the names are of other weights;
    `out` is then as it was.
    """
    record, model, acts = finished(run, store)
    recipe = record["recipe"] or acts.manifest.plan.recipe
    specs = {spec.name: spec for spec in acts.streams}
    with staged(out) as folder, ExitStack() as stack:
        students = read_students(run, specs, acts.path)
        taught = {name: kept.spec for name, kept in students.items()}
        others = {name: spec for name, spec in specs.items() if name not in students}
        found = load_encoders(others, recipe, encoders) | {
            s: k.encoder for s, k in students.items()
        }
        specs |= taught
        loaded = {name: found[name] for name in specs if name in found}
        split = stack.enter_context(localisable(loaded if localisers else {}, specs))
        draft = Draft(
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
            localisers={s: one.draft for s, one in split.items()},
            reference=_reference(acts, record, {s: k.acts_ND for s, k in students.items()}),
            held_out=_batches(acts, students, HELD_OUT),
            distilled={s: k.about for s, k in students.items()},
            training=_provenance(record, recipe),
            metrics=metrics_summary(run),
            names=read_names(run, names),
        )
        if precision is None:
            artifact = write_artifact(folder, draft)
            parity = _gate(artifact, model, acts, loaded) + check_localisers(artifact, split)
        else:
            layout = source or (RECIPES[recipe]().source if recipe in RECIPES else None)
            examples = Examples(acts, loaded, source_of(data, layout))
            with TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.") as full:
                artifact = write_artifact(Path(full), draft)
                parity = _gate(artifact, model, acts, loaded)
                parity += check_localisers(artifact, split)
                _write_smaller(folder, draft, artifact, acts, examples, precision)
    return Exported(Artifact.open(out, verify=False), parity)  # hashed when it was written


class Finished(NamedTuple):
    """A run that `fit` or `adopt` finished."""

    record: dict[str, Any]
    model: AlignedDictionary
    store: ActivationStore


def finished(run: Path, store: Path | None = None) -> Finished:
    """What `run` delivers and the store that it was fitted on, which `store` may name.

    Raises `ExportError` where the run is unfinished or the store has changed.
    """
    record = read_record(run)
    model = load_model(run)
    acts = shown(ActivationStore.open(store or Path(record["store"]), verify=False), record)
    _check_store(acts, record, model)
    return Finished(record, model, acts)


def _write_smaller(
    folder: Path,
    draft: Draft,
    full: Artifact,
    store: ActivationStore,
    examples: Examples,
    config: PrecisionConfig,
) -> None:
    """Writes the artifact in fewer bits, if its codes stay near those of `full`."""
    lowering = Lowering(full, examples, config)
    reference = profile_batches(folder, full, examples, store, "train")
    smaller = replace(
        draft,
        backbones=lowering.writers(),
        storage=STORAGE[config.kind],
        reference=reference,
        held_out=profile_batches(folder, full, examples, store, held_out(store)),
    )
    small = write_artifact(folder, smaller)
    precision = Comparison(
        full=full, small=small, examples=examples, store=store, config=config
    ).gate(lowering.methods)
    manifest = small.manifest.model_copy(update={"precision": precision})
    profile = read_profile(folder / PROFILE).streams
    write_manifest(folder, manifest, profile, read_concepts(folder / CONCEPTS))


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


def read_record(run: Path) -> dict[str, Any]:
    """`RUN/fit.json`; ExportError where the run is unfinished."""
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


def load_encoders(
    specs: Mapping[str, StreamSpec], recipe: str | None, folder: Path | None
) -> dict[str, Encoder]:
    """Encoders of the streams that have one; each must be the one that made the store."""
    wanted = {name: spec for name, spec in specs.items() if spec.encoder is not None}
    if not wanted:
        return {}
    configured = _recipe(recipe)
    configs = {**configured.streams, **configured.joins}
    loaded: dict[str, Encoder] = {}
    for name, spec in wanted.items():
        encoder = load_encoder(configs[name], folder or configured.encoders)
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


def _reference(
    store: ActivationStore, record: Mapping[str, Any], students: Mapping[str, ActsND]
) -> Iterator[ReferenceBatch]:
    """Training items' activations: the store's, but of students their own; streams that the store
    lacks are counted on the parent run's."""
    yield from _batches(store, students, ("train",))
    held = {spec.name for spec in store.manifest.plan.streams}
    lacking = [spec for spec in store.streams if spec.name not in held]
    if lacking:
        parent = ActivationStore.open(Path(record["parent_store"]), verify=False)
        yield from _batches(parent.showing(lacking), {}, ("train",))
    for name, acts_ND in students.items():
        yield one_stream(name, acts_ND, {spec.name: spec.d_in for spec in store.streams})


def _batches(
    store: ActivationStore, students: Collection[str], splits: Sequence[Split]
) -> Iterator[ReferenceBatch]:
    rows = np.concatenate([store.split(split) for split in splits])
    if len(rows) > PROFILE_ROWS:
        rows = rows[np.linspace(0, len(rows) - 1, PROFILE_ROWS).astype(np.int64)]
    # any of an item's captions: what is served is no row's first one in particular
    draws_N = np.random.default_rng(CAPTION_SEED).random(len(rows))
    names = [spec.name for spec in store.streams]
    taught_S = np.array([name in students for name in names])
    for start in range(0, len(rows), _BATCH):
        part = slice(start, start + _BATCH)
        acts, present_NS = store.gather(rows[part], draws_N[part])
        yield ReferenceBatch(acts, present_NS & ~taught_S)


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
        adopted=record.get("adopted", {}).get("checkpoint"),
        commit=_commit(),
        lineage=Lineage.model_validate(record["lineage"]) if "lineage" in record else None,
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
