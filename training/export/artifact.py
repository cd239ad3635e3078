"""Writes an artifact directory, whole or not at all; fits and checks nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from safetensors.numpy import save

from koine import manifest as m
from koine.artifact import Artifact, is_artifact, sha256_file
from koine.concepts import Concept, write_concepts
from koine.errors import ExportError
from koine.heads import Heads
from koine.profile import Profile, StreamProfile, write_profile
from koine.sessions import CPU
from koine.streams import StreamSpec, TextPreprocess
from koine.types import ActsND, PresentNS
from training.activations.files import fsync_file
from training.export.card import model_card
from training.export.counted import Counted, Different
from training.export.head import CodeRule, HeadWeights, Storage, head_file, write_heads
from training.naming.names import Names

WriteBackbone = Callable[[Path], None]
"""Writes an ONNX graph (and its data file, if any) at the path given."""


class LocaliserDraft(NamedTuple):
    """A localiser to be written."""

    write: WriteBackbone
    side: int
    moves: int
    stride: int


class ReferenceBatch(NamedTuple):
    """Some training items' activations, from which the profile is counted."""

    acts: Mapping[str, ActsND]
    present_NS: PresentNS
    """Columns in the order of `acts`."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """All that goes into an artifact."""

    name: str
    version: str
    k: int
    method: Literal["koine", "sparc"]
    shared: bool
    """Whether joint encoding takes one support per item (Global TopK)."""
    specs: Mapping[str, StreamSpec]
    weights: Mapping[str, HeadWeights]
    """Streams in the same order as `specs`."""
    backbones: Mapping[str, WriteBackbone]
    """Missing for streams of imported activations."""
    tokenizers: Mapping[str, Path]
    """`tokenizer.json` of each text stream."""
    localisers: Mapping[str, LocaliserDraft] = field(default_factory=dict[str, LocaliserDraft])
    """Missing for streams whose pooling does not split over patches."""
    reference: Iterable[ReferenceBatch]
    """Items of whose codes the profile counts the concepts."""
    held_out: Iterable[ReferenceBatch] = ()
    """Items that the dictionary was not trained on: it knows its own better, and what is served is
    none of them. Of these are the profile's means; without any, of `reference`."""
    training: m.Provenance = m.Provenance()
    metrics: Mapping[str, float]
    rule: CodeRule | None = None
    """Goes with weights that have a selector."""
    names: Names | None = None
    """What `name` found of these weights' concepts."""
    storage: Storage | None = None
    """How the heads' matrices are stored; None: in float32."""
    distilled: Mapping[str, m.Distilled] = field(default_factory=dict[str, m.Distilled])


@contextmanager
def staged(
    out: Path, replaces: Callable[[Path], bool] = is_artifact, what: str = "artifact"
) -> Iterator[Path]:
    """A fresh folder beside `out` that replaces it when the block ends, and vanishes on error.

    Raises `ExportError` at once if `out` holds something that is no `what`, by `replaces`.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise ExportError(f"{out} is a file or a link; give a directory that may be written")
    if out.is_dir() and any(out.iterdir()) and not replaces(out):
        raise ExportError(f"{out} holds files but no {what}; give another --out or empty it")
    out = out.absolute()
    folder, old = out.with_name(f".{out.name}.tmp"), out.with_name(f".{out.name}.old.tmp")
    _put_back(old, out)  # after an export that was killed
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
        _sync(folder)
        if out.exists():
            out.rename(old)
        folder.rename(out)
    finally:
        _put_back(old, out)
        shutil.rmtree(folder, ignore_errors=True)


def write_artifact(folder: Path, draft: Draft) -> Artifact:
    """Writes every file of the artifact into the empty `folder` and opens it."""
    assert list(draft.specs) == list(draft.weights)
    write_heads(
        folder, draft.weights, draft.k, shared=draft.shared, rule=draft.rule, storage=draft.storage
    )
    _write_decoders(folder / m.DECODERS, draft)
    _write_directions(folder / m.DIRECTIONS, draft)
    streams = tuple(_write_stream(folder, draft, name) for name in draft.specs)
    profile = _profile(folder, draft, f"{draft.name}@{draft.version}")
    (folder / m.PROFILE).parent.mkdir()
    write_profile(folder / m.PROFILE, profile)
    concepts = _concepts(profile.streams, draft.names)
    write_concepts(folder / m.CONCEPTS, concepts)
    if draft.names is not None and draft.names.thumbnails is not None:
        shutil.copyfile(draft.names.thumbnails, folder / m.EXEMPLARS)
    manifest = m.Manifest(
        name=draft.name,
        version=draft.version,
        num_concepts=_num_concepts(draft),
        k=draft.k,
        method=draft.method,
        streams=streams,
        selection=m.Selection(joint="summed_topk" if draft.shared else "own_topk"),
        files=_entries(folder) | {m.CARD: m.FileEntry(sha256="0" * 64, bytes=0)},
        training=draft.training,
        metrics=dict(draft.metrics),
        distilled=dict(draft.distilled),
        created=datetime.now(UTC).replace(microsecond=0),
    )
    write_manifest(folder, manifest, profile.streams, concepts)
    return Artifact.open(folder)


def write_manifest(
    folder: Path,
    manifest: m.Manifest,
    profile: Mapping[str, StreamProfile],
    concepts: Sequence[Concept],
) -> None:
    """Writes the model card and the manifest with the hashes of all files in `folder`."""
    (folder / m.CARD).write_text(model_card(manifest, profile, concepts), encoding="utf-8")
    manifest = manifest.model_copy(update={"files": _entries(folder)})
    (folder / m.MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _put_back(old: Path, out: Path) -> None:
    """Returns what was moved aside, unless its successor has arrived."""
    if old.exists() and not out.exists():
        old.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _num_concepts(draft: Draft) -> int:
    return next(iter(draft.weights.values())).num_concepts


def _write_stream(folder: Path, draft: Draft, name: str) -> m.ArtifactStream:
    spec, w = draft.specs[name], draft.weights[name]
    backbone = None
    if name in draft.backbones:
        backbone = f"backbones/{name}.onnx"
        (folder / backbone).parent.mkdir(exist_ok=True)
        draft.backbones[name](folder / backbone)
    if isinstance(spec.preprocess, TextPreprocess):
        file = f"tokenizers/{name}.json"
        (folder / file).parent.mkdir(exist_ok=True)
        shutil.copyfile(draft.tokenizers[name], folder / file)
        preprocess = spec.preprocess.model_copy(update={"tokenizer": file})
        spec = spec.model_copy(update={"preprocess": preprocess})
    centred = bool(w.shift_D.any() or w.scale != 1)
    return m.ArtifactStream(
        spec=spec,
        normalisation="unit_centred" if centred else "unit",
        head=head_file(name),
        backbone=backbone,
        localiser=_write_localiser(folder, draft, name),
    )


def _write_localiser(folder: Path, draft: Draft, name: str) -> m.Localiser | None:
    if name not in draft.localisers:
        return None
    one = draft.localisers[name]
    graph = f"localisers/{name}.onnx"
    one.write(folder / graph)
    return m.Localiser(graph=graph, side=one.side, moves=one.moves, stride=one.stride)


def _write_directions(path: Path, draft: Draft) -> None:
    """What reads a concept's pre-code from unit-norm activations, where a localiser needs it."""
    if not draft.localisers:
        return
    path.parent.mkdir()
    rows = {name: draft.weights[name] for name in draft.localisers}
    path.write_bytes(save({name: w.encoder_CD * w.scale for name, w in rows.items()}))


def _write_decoders(path: Path, draft: Draft) -> None:
    small = (draft.storage or {}).get("dictionary_CD", "float32") != "float32"
    tensors: dict[str, np.ndarray] = {}
    for name, w in draft.weights.items():
        tensors[f"{name}.dictionary"] = w.dictionary_CD.astype(np.float16 if small else np.float32)
        tensors[f"{name}.pre_bias"] = w.pre_bias_D
        tensors[f"{name}.shift"] = w.shift_D
        tensors[f"{name}.scale"] = w.scale
        tensors[f"{name}.mean"] = w.mean_D
    path.write_bytes(save(tensors))  # `save_file` keeps files from other users


def _profile(folder: Path, draft: Draft, title: str) -> Profile:
    """Of the reference items, each a block of its own: nobody knows which of them are alike.

    Equal ones count once, as in traffic.
    """
    heads = Heads(
        folder,
        {name: head_file(name) for name in draft.weights},
        {name: w.d_in for name, w in draft.weights.items()},
        [CPU],
    )
    parts: list[Counted] = []
    for batches in (draft.reference, draft.held_out):
        counted = Counted(list(draft.weights), _num_concepts(draft), draft.k)
        different = Different(draft.weights)
        for batch in batches:
            codes = {name: heads.independent(name, acts) for name, acts in batch.acts.items()}
            counted.add(codes, different.of(batch.acts, batch.present_NS))
        parts.append(counted)
    return parts[0].profile(title, parts[1])


def _concepts(profile: Mapping[str, StreamProfile], names: Names | None) -> list[Concept]:
    rates = {name: stream.rates_C for name, stream in profile.items()}
    num_concepts = len(next(iter(rates.values())))
    known = names.concepts if names else [Concept(id=c) for c in range(num_concepts)]
    assert len(known) == num_concepts
    return [
        concept.model_copy(
            update={"rate": {name: round(float(r[concept.id]), 8) for name, r in rates.items()}}
        )
        for concept in known
    ]


def _entries(folder: Path) -> dict[str, m.FileEntry]:
    found = (path for path in folder.rglob("*") if path.is_file())
    files = sorted(path for path in found if path != folder / m.MANIFEST)
    return {
        path.relative_to(folder).as_posix(): m.FileEntry(
            sha256=sha256_file(path), bytes=path.stat().st_size
        )
        for path in files
    }


def _sync(folder: Path) -> None:
    """Brings every file to disk, so that a power cut after the rename leaves no holes."""
    for path in [folder, *folder.rglob("*")]:
        fsync_file(path)
