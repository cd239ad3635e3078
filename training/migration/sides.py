"""A dictionary to match, from a run or an artifact: directions, and codes of a store's items."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float64, Int64
from safetensors.numpy import load_file
from scipy.sparse import csr_array, vstack

from koine.artifact import Artifact, is_artifact, sha256_file
from koine.concepts import Concept, read_concepts
from koine.errors import RequestError
from koine.heads import Heads
from koine.manifest import CONCEPTS, DECODERS
from koine.sessions import CPU
from koine.streams import StreamSpec
from training.activations.store import ActivationStore
from training.checkpoint import MODEL, load_model
from training.evaluation.codes import sparse
from training.evaluation.encoding import encoded
from training.evaluation.stability import decoder_rows
from training.model import AlignedDictionary

CHUNK_ROWS = 1024

Coded = dict[str, csr_array]
"""By stream: independent codes [N, C]; rows that lack the stream are empty."""


class Encode(Protocol):
    """Encodes rows of a store that has at least one of the side's streams."""

    def __call__(self, store: ActivationStore, rows_N: Int64[np.ndarray, "N"]) -> Coded:
        """Codes of the streams that both have."""
        ...


class Side(NamedTuple):
    """One of the two dictionaries."""

    path: Path
    digest: str
    """`sha256:` of the run's weights or of the artifact's manifest."""
    num_concepts: int
    widths: Mapping[str, int]
    directions: Mapping[str, Float64[np.ndarray, "C _"]]
    """By stream: unit decoder rows."""
    encode: Encode
    artifact: Artifact | None
    """None for a run without one."""

    @property
    def concepts(self) -> list[Concept] | None:
        """What the artifact says of them; None for a run without one."""
        return None if self.artifact is None else read_concepts(self.artifact.file(CONCEPTS))


def open_side(path: Path) -> Side:
    """RequestError where the path holds neither a finished run nor an artifact."""
    if is_artifact(path):
        return _of_artifact(Artifact.open(path))
    if not (path / MODEL).is_file():
        raise RequestError(
            f"`{path}` is neither an artifact nor a run with a fitted dictionary (`{MODEL}` is "
            "missing): give what `fit`, `extend` or `export` wrote"
        )
    return _of_run(path)


def _of_run(run: Path) -> Side:
    model = load_model(run)
    artifact = run / "artifact"
    return Side(
        path=run,
        digest=f"sha256:{sha256_file(run / MODEL)}",
        num_concepts=model.config.num_concepts,
        widths={name: model.of(name).encoder_CD.shape[1] for name in model.streams},
        directions={name: decoder_rows(model, name) for name in model.streams},
        encode=_RunCodes(model),
        artifact=Artifact.open(artifact) if is_artifact(artifact) else None,
    )


def _of_artifact(artifact: Artifact) -> Side:
    streams = {s.spec.name: s for s in artifact.manifest.streams}
    decoders = load_file(artifact.file(DECODERS))
    rows = {name: decoders[f"{name}.dictionary"].astype(np.float64) for name in streams}
    widths = {name: stream.spec.d_in for name, stream in streams.items()}
    files = {name: stream.head for name, stream in streams.items()}
    return Side(
        path=artifact.path,
        digest=f"sha256:{artifact.digest}",
        num_concepts=artifact.manifest.num_concepts,
        widths=widths,
        directions={name: _unit(rows_CD) for name, rows_CD in rows.items()},
        encode=_ArtifactCodes(
            Heads(artifact.path, files, widths, [CPU]), artifact.manifest.num_concepts, widths
        ),
        artifact=artifact,
    )


class _RunCodes:
    def __init__(self, model: AlignedDictionary) -> None:
        self._model = model

    def __call__(self, store: ActivationStore, rows_N: Int64[np.ndarray, "N"]) -> Coded:
        held = {spec.name: spec for spec in store.streams}
        lacking = {
            name: StreamSpec(name=name, modality="vector", d_in=len(self._model.of(name).mean_D))
            for name in self._model.streams
        }
        shown = store.showing([held.get(name, lacking[name]) for name in self._model.streams])
        parts: dict[str, list[csr_array]] = {n: [] for n in self._model.streams if n in held}
        for batch in encoded(self._model, shown, rows_N, modes=("independent",)):
            for name, found in parts.items():
                found.append(batch.sparse["independent"][name])
        return {name: csr_array(vstack(each)) for name, each in parts.items()}


class _ArtifactCodes:
    def __init__(self, heads: Heads, num_concepts: int, widths: Mapping[str, int]) -> None:
        self._heads, self._num_concepts, self._widths = heads, num_concepts, widths

    def __call__(self, store: ActivationStore, rows_N: Int64[np.ndarray, "N"]) -> Coded:
        names = [spec.name for spec in store.streams]
        parts: dict[str, list[csr_array]] = {n: [] for n in self._widths if n in names}
        for start in range(0, len(rows_N), CHUNK_ROWS):
            batch = store.gather(rows_N[start : start + CHUNK_ROWS])
            for name, found in parts.items():
                codes = self._heads.independent(name, batch.acts[name])
                here_N1 = batch.present_NS[:, names.index(name), None]
                values_NK = codes.values_NK * here_N1
                found.append(sparse(codes.indices_NK, values_NK, self._num_concepts))
        return {name: csr_array(vstack(each)) for name, each in parts.items()}


def _unit(rows_CD: Float64[np.ndarray, "C D"]) -> Float64[np.ndarray, "C D"]:
    lengths_C1 = np.linalg.norm(rows_CD, axis=1, keepdims=True)
    return rows_CD / np.where(lengths_C1 > 0, lengths_C1, 1.0)
