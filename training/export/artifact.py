"""Writes an artifact directory, whole or not at all; fits and checks nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from safetensors.numpy import save_file

from koine import manifest as m
from koine.artifact import Artifact, is_artifact, sha256_file
from koine.concepts import Concept, write_concepts
from koine.errors import ExportError
from koine.heads import Heads
from koine.profile import StreamProfile, write_profile
from koine.sessions import CPU
from koine.streams import StreamSpec, TextPreprocess
from koine.types import ActsND, PresentNS
from training.activations.files import fsync_file
from training.export.card import model_card
from training.export.head import CodeRule, HeadWeights, head_file, write_heads

WriteBackbone = Callable[[Path], None]
"""Writes an ONNX graph (and its data file, if any) at the path given."""


class LocaliserDraft(NamedTuple):
    """A localiser to be written."""

    write: WriteBackbone
    side: int


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
    training: m.Provenance = m.Provenance()
    metrics: Mapping[str, float]
    rule: CodeRule | None = None
    """Goes with weights that have a selector."""


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A fresh folder beside `out` that replaces it when the block ends, and vanishes on error.

    Raises `ExportError` at once if `out` holds something that is no artifact.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise ExportError(f"{out} is a file or a link; give a directory that may be written")
    if out.is_dir() and any(out.iterdir()) and not is_artifact(out):
        raise ExportError(f"{out} holds files but no artifact; give another --out or empty it")
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
    write_heads(folder, draft.weights, draft.k, shared=draft.shared, rule=draft.rule)
    _write_decoders(folder / m.DECODERS, draft.weights)
    _write_directions(folder / m.DIRECTIONS, draft)
    streams = tuple(_write_stream(folder, draft, name) for name in draft.specs)
    profile = _profile(folder, draft)
    (folder / m.PROFILE).parent.mkdir()
    write_profile(folder / m.PROFILE, profile)
    write_concepts(folder / m.CONCEPTS, _concepts(profile))
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
        created=datetime.now(UTC).replace(microsecond=0),
    )
    (folder / m.CARD).write_text(model_card(manifest, profile), encoding="utf-8")
    manifest = manifest.model_copy(update={"files": _entries(folder)})
    (folder / m.MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return Artifact.open(folder)


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
    write, side = draft.localisers[name]
    graph = f"localisers/{name}.onnx"
    write(folder / graph)
    return m.Localiser(graph=graph, side=side)


def _write_directions(path: Path, draft: Draft) -> None:
    """What reads a concept's pre-code from unit-norm activations, where a localiser needs it."""
    if not draft.localisers:
        return
    path.parent.mkdir()
    rows = {name: draft.weights[name] for name in draft.localisers}
    save_file({name: w.encoder_CD * w.scale for name, w in rows.items()}, path)


def _write_decoders(path: Path, weights: Mapping[str, HeadWeights]) -> None:
    tensors: dict[str, np.ndarray] = {}
    for name, w in weights.items():
        tensors[f"{name}.dictionary"] = w.dictionary_CD
        tensors[f"{name}.pre_bias"] = w.pre_bias_D
        tensors[f"{name}.shift"] = w.shift_D
        tensors[f"{name}.scale"] = w.scale
        tensors[f"{name}.mean"] = w.mean_D
    save_file(tensors, path)


def _profile(folder: Path, draft: Draft) -> dict[str, StreamProfile]:
    heads = Heads(
        folder,
        {name: head_file(name) for name in draft.weights},
        {name: w.d_in for name, w in draft.weights.items()},
        [CPU],
    )
    profile = {name: StreamProfile.empty(_num_concepts(draft), draft.k) for name in draft.weights}
    for batch in draft.reference:
        for column, (name, acts_ND) in enumerate(batch.acts.items()):
            present_ND = acts_ND[batch.present_NS[:, column]]
            profile[name] = profile[name].counting(heads.independent(name, present_ND))
    return profile


def _concepts(profile: Mapping[str, StreamProfile]) -> list[Concept]:
    rates = {name: stream.rates_C for name, stream in profile.items()}
    num_concepts = len(next(iter(rates.values())))
    return [
        Concept(id=c, rate={name: round(float(r[c]), 8) for name, r in rates.items()})
        for c in range(num_concepts)
    ]


def _entries(folder: Path) -> dict[str, m.FileEntry]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
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
