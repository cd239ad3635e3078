"""Codes as the sparse vectors that Qdrant, OpenSearch and pgvector take; sends them nowhere.

A concept is a dimension, so that every stream's codes lie in one space and one model's items are
found by another's. The stores rank by the inner product, which norm 1 makes the cosine.

    qdrant      {"id", "vector": {stream: {"indices", "values"}}, "payload": {"item"}}, a point a
                line, for a named sparse vector per stream
    opensearch  the bulk API's pairs of lines, {"item", "codes": {stream: {"c4711": 0.3}}}, for
                `rank_features` fields (positive values; a feature's name may not hold a dot)
    pgvector    item, stream and `sparsevec` literal `{4712:0.3}/8192`, counted from 1, with tabs
                between, for COPY
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float64, Int64

from koine.codes import PAD, Codes
from koine.errors import RequestError
from koine.profile import StreamProfile

Store = Literal["qdrant", "opensearch", "pgvector"]
Weighting = Literal["l2", "idf", "raw"]
"""`l2`: values brought to norm 1; `idf`: first times log((N + 1) / (fires + 1)) of the stream's
profile, so that concepts that fire often say less; `raw`: values as they are."""

STORES: tuple[Store, ...] = get_args(Store)
WEIGHTINGS: tuple[Weighting, ...] = get_args(Weighting)
MOST_PGVECTOR = 1000
"""Entries that pgvector's index takes of one `sparsevec`."""
_NAMESPACE = uuid.UUID("6f0f2a0e-6a0b-5b52-9a0f-7c1d6c7b3c55")


class SparseVector(NamedTuple):
    """One item's weighed codes in one stream, by concept, without zeros."""

    indices_M: Int64[np.ndarray, "M"]
    values_M: Float64[np.ndarray, "M"]


class Item(NamedTuple):
    """An item's vectors by stream."""

    id: str
    vectors: Mapping[str, SparseVector]


def weights(profile: StreamProfile, weighting: Weighting) -> Float64[np.ndarray, "C"]:
    """What each concept's value is multiplied by in a stream: its rarity there, or 1."""
    if weighting != "idf":
        return np.ones(len(profile.rates_C))
    return np.log((profile.items + 1) / (profile.fires.fires_C.astype(np.float64) + 1))


def sparse_vector(
    indices: Sequence[int] | np.ndarray,
    values: Sequence[float] | np.ndarray,
    weights_C: Float64[np.ndarray, "C"],
    weighting: Weighting = "l2",
) -> SparseVector:
    """An item's codes, weighed; empty where nothing is active.

    Entries follow their concepts' ids. Raises `RequestError` for concepts that `weights_C` has
    not, repeated ones, and values that are negative or not finite.
    """
    indices_K, values_K = np.asarray(indices, np.int64), np.asarray(values, np.float64)
    active_K = indices_K != PAD
    indices_M, values_M = indices_K[active_K], values_K[active_K]
    num_concepts = len(weights_C)
    if len(indices_M) and not (indices_M.min() >= 0 and indices_M.max() < num_concepts):
        raise RequestError(
            f"concept {int(indices_M.max())} is none of this dictionary's {num_concepts}: the "
            "codes are another dictionary's; give the artifact that made them"
        )
    if len(np.unique(indices_M)) < len(indices_M):
        raise RequestError("a concept stands twice in one item's codes; encode the items again")
    if not np.isfinite(values_M).all() or (values_M < 0).any():
        raise RequestError("codes have negative or non-finite values; encode the items again")
    values_M = values_M * weights_C[indices_M]
    kept_M = values_M > 0  # concepts that fire on every item say nothing
    indices_M, values_M = indices_M[kept_M], values_M[kept_M]
    order_M = np.argsort(indices_M)
    norm = 1.0 if weighting == "raw" else float(np.linalg.norm(values_M)) or 1.0
    return SparseVector(indices_M[order_M], values_M[order_M] / norm)


def sparse_vectors(
    codes: Codes, profile: StreamProfile, weighting: Weighting = "l2"
) -> list[SparseVector]:
    """A stream's codes of N items as N vectors."""
    weights_C = weights(profile, weighting)
    rows = zip(codes.indices_NK, codes.values_NK, strict=True)
    return [
        sparse_vector(indices_K, values_K, weights_C, weighting) for indices_K, values_K in rows
    ]


def lines(items: Iterable[Item], store: Store, num_concepts: int) -> Iterator[str]:
    """What `store` reads, a line each. Raises `RequestError` for what it cannot hold."""
    return _WRITERS[store](items, num_concepts)


def qdrant_point(item: Item) -> dict[str, object]:
    """A point for Qdrant; the same item has the same id, so that it replaces itself."""
    vectors = {name: _qdrant(v) for name, v in item.vectors.items()}
    return {
        "id": str(uuid.uuid5(_NAMESPACE, item.id)),
        "vector": vectors,
        "payload": {"item": item.id},
    }


def sparsevec(vector: SparseVector, num_concepts: int) -> str:
    """pgvector's literal, counted from 1. Raises `RequestError` beyond what its index takes."""
    if len(vector.indices_M) > MOST_PGVECTOR:
        raise RequestError(
            f"an item has {len(vector.indices_M)} active concepts; pgvector's index takes "
            f"{MOST_PGVECTOR}: encode it independently by one stream, or keep the strongest"
        )
    entries = zip(vector.indices_M.tolist(), vector.values_M.tolist(), strict=True)
    return "{" + ",".join(f"{i + 1}:{v:.7g}" for i, v in entries) + f"}}/{num_concepts}"


def rank_features(vector: SparseVector) -> dict[str, float]:
    """OpenSearch's `rank_features`: concept 4711 is the feature `c4711`."""
    entries = zip(vector.indices_M.tolist(), vector.values_M.tolist(), strict=True)
    return {f"c{i}": float(f"{v:.7g}") for i, v in entries}


def _qdrant(vector: SparseVector) -> dict[str, list[int] | list[float]]:
    values = [float(f"{v:.7g}") for v in vector.values_M.tolist()]
    return {"indices": vector.indices_M.tolist(), "values": values}


def _qdrant_lines(items: Iterable[Item], num_concepts: int) -> Iterator[str]:
    for item in items:
        yield _json(qdrant_point(item))


def _opensearch_lines(items: Iterable[Item], num_concepts: int) -> Iterator[str]:
    for item in items:
        yield _json({"index": {"_id": item.id}})
        codes = {name: rank_features(v) for name, v in item.vectors.items()}
        yield _json({"item": item.id, "codes": codes})


def _pgvector_lines(items: Iterable[Item], num_concepts: int) -> Iterator[str]:
    for item in items:
        for name, vector in item.vectors.items():
            yield "\t".join((_copied(item.id), name, sparsevec(vector, num_concepts)))


def _copied(text: str) -> str:
    """As COPY's text format reads it back."""
    for plain, escaped in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(plain, escaped)
    return text


def _json(content: object) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


_WRITERS: dict[Store, Callable[[Iterable[Item], int], Iterator[str]]] = {
    "qdrant": _qdrant_lines,
    "opensearch": _opensearch_lines,
    "pgvector": _pgvector_lines,
}
