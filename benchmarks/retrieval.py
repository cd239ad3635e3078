"""`python -m benchmarks.retrieval ARTIFACT STORE`: text finds photographs through vision-only
streams by sparse codes, beside what linear maps between raw activations find.

Every caption of the held-out photographs is a query, every photograph a candidate, and a query
finds its own. Codes are independent: jointly selected ones give the item away. Maps are fitted on
the training pairs that the dictionary saw; their penalties, as the weighting of codes, are those
best on validation by mean recall. Qdrant then searches by that weighting, in its client's local
mode, which needs no server but takes 40 ms a query: it is asked each photograph's first caption.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh, solve
from scipy.sparse import csr_array

from koine.artifact import Artifact
from koine.encoder import ConceptEncoder
from koine.errors import KoineError, RequestError
from koine.manifest import PROFILE
from koine.profile import read_profile
from koine.vectors import WEIGHTINGS, Item, SparseVector, qdrant_point, sparse_vectors
from training.activations.rows import Split
from training.activations.store import ActivationStore

CUTOFFS = (1, 5, 10)
PENALTIES = (0.003, 0.03, 0.3, 3.0)
"""Of ridge and CCA, in units of a stream's mean variance per dimension."""
RANKS = (16, 64, 128)
"""Canonical directions that CCA keeps."""

Search = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Queries [Q, A] and photographs [N, B] → similarities [Q, N]."""


class Pairs(NamedTuple):
    """Captions and their photographs in one split."""

    texts_QA: np.ndarray
    images: Mapping[str, np.ndarray]
    """By stream, [N, B]."""
    own_Q: np.ndarray
    """The photograph of each caption."""


class Recall(NamedTuple):
    """Share of the captions whose photograph is among the first 1, 5, 10."""

    r1: float
    r5: float
    r10: float


def main() -> int:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retrieval", description=__doc__)
    parser.add_argument("artifact", help="artifact directory, or hf://owner/name[@revision]")
    parser.add_argument("store", type=Path, help="activation store that it was fitted on")
    parser.add_argument("--stream", help="only this image stream")
    args = parser.parse_args()
    try:
        artifact, store = Artifact.open(args.artifact), ActivationStore.open(args.store)
        text = _text_stream(store)
        splits: dict[Split, Pairs] = {s: pairs(store, s, text) for s in ("train", "val", "test")}
        print("| text finds photos of | by | R@1 | R@5 | R@10 |\n|---|---|---|---|---|")
        streams = list(splits["test"].images)
        if args.stream not in (None, *streams):
            raise RequestError(
                f"{args.stream!r} is no image stream; there are {', '.join(streams)}"
            )
        for stream in [args.stream] if args.stream else streams:
            for by, recall in measured(artifact, splits, text, stream).items():
                cells = " | ".join(f"{value:.3f}" for value in recall)
                print(f"| `{stream}` | {by} | {cells} |", flush=True)
    except KoineError as error:
        print(f"{error.title}: {error}", file=sys.stderr)
        return 2
    return 0


def measured(
    artifact: Artifact, splits: Mapping[Split, Pairs], text: str, stream: str
) -> dict[str, Recall]:
    """Recall on the test split by each way to search, chosen on the validation split."""
    train, val, test = (splits[s] for s in ("train", "val", "test"))
    count = len(test.images[stream])
    found = {"chance": Recall(*(k / count for k in CUTOFFS))}
    for by, searches in (("ridge", ridges(train, stream)), ("CCA", ccas(train, stream))):
        search = best(val, stream, searches)
        found[f"{by} between raw activations"] = recall(search, test, stream)
    encoder = ConceptEncoder(artifact)
    profile = read_profile(artifact.file(PROFILE)).streams
    vectors: dict[tuple[Split, Weighting], tuple[list[SparseVector], list[SparseVector]]] = {}
    for split in ("val", "test"):
        queries = encoder.encode({text: splits[split].texts_QA})[text]
        photos = encoder.encode({stream: splits[split].images[stream]})[stream]
        for w in WEIGHTINGS:
            pair = (queries, profile[text]), (photos, profile[stream])
            a, b = (sparse_vectors(codes, p, w) for codes, p in pair)
            vectors[split, w] = a, b
            similar_QN = _matrix(a, artifact) @ _matrix(b, artifact).T
            name = f"codes, `{w}`" + (", on validation" if split == "val" else "")
            found[name] = _recall(similar_QN.toarray(), splits[split].own_Q)
    chosen = max(WEIGHTINGS, key=lambda w: sum(found[f"codes, `{w}`, on validation"]))
    texts, images = vectors["test", chosen]
    first_N = np.unique(test.own_Q, return_index=True)[1]
    texts = [texts[q] for q in first_N]
    found[f"Qdrant, `{chosen}`, first captions"] = in_qdrant(texts, images, stream)
    similar_NN = _matrix(texts, artifact) @ _matrix(images, artifact).T
    own_N = np.arange(len(first_N))
    found[f"codes, `{chosen}`, first captions"] = _recall(similar_NN.toarray(), own_N)
    return found


def pairs(store: ActivationStore, split: Split, text: str) -> Pairs:
    """Every caption of the split, unit-norm, and the photographs, unit-norm, by stream."""
    rows_N = store.split(split)
    images = [spec.name for spec in store.streams if spec.modality == "image"]
    if len(rows_N) == 0 or not store.present(rows_N).all():
        raise RequestError(f"`{split}` must hold items, each with every stream")
    acts = {name: store.vectors(name, rows_N).astype(np.float32) for name in (text, *images)}
    own_Q = np.repeat(np.arange(len(rows_N)), store.counts(text)[rows_N])
    return Pairs(acts[text], {name: acts[name] for name in images}, own_Q)


def recall(search: Search, split: Pairs, stream: str) -> Recall:
    """Of a search, on a split; ties count half."""
    return _recall(search(_unit(split.texts_QA), _unit(split.images[stream])), split.own_Q)


def best(val: Pairs, stream: str, searches: list[Search]) -> Search:
    """The one with the largest mean recall on the validation split."""
    return max(searches, key=lambda search: sum(recall(search, val, stream)))


def ridges(train: Pairs, stream: str) -> list[Search]:
    """Cosine to the image activations that a ridge regression predicts of the text's."""
    a_QA, b_QB = _unit(train.texts_QA), _unit(train.images[stream])[train.own_Q]
    mean_a, mean_b = a_QA.mean(0), b_QB.mean(0)
    a_QA, b_QB = a_QA - mean_a, b_QB - mean_b
    covariance_AA, cross_AB = a_QA.T @ a_QA / len(a_QA), a_QA.T @ b_QB / len(a_QA)
    searches: list[Search] = []
    for penalty in PENALTIES:
        map_AB = solve(_regularised(covariance_AA, penalty), cross_AB, assume_a="pos")
        searches.append(_mapped(map_AB, np.eye(len(mean_b)), mean_a, mean_b))
    return searches


def ccas(train: Pairs, stream: str) -> list[Search]:
    """Cosine of the canonical directions, each weighed by its correlation."""
    a_QA, b_QB = _unit(train.texts_QA), _unit(train.images[stream])[train.own_Q]
    mean_a, mean_b = a_QA.mean(0), b_QB.mean(0)
    a_QA, b_QB = a_QA - mean_a, b_QB - mean_b
    n = len(a_QA)
    covariances, cross_AB = (a_QA.T @ a_QA / n, b_QB.T @ b_QB / n), a_QA.T @ b_QB / n
    searches: list[Search] = []
    for penalty in PENALTIES:
        white_a, white_b = (_whitening(_regularised(c, penalty)) for c in covariances)
        left, correlations, right = np.linalg.svd(white_a @ cross_AB @ white_b, full_matrices=False)
        for rank in RANKS:
            weights = correlations[:rank]
            into_a = white_a @ left[:, :rank] * weights
            searches.append(_mapped(into_a, white_b @ right[:rank].T * weights, mean_a, mean_b))
    return searches


def in_qdrant(texts: list[SparseVector], photos: list[SparseVector], stream: str) -> Recall:
    """What Qdrant's first ten hits hold; text i belongs to photograph i."""
    client, models = _qdrant()
    client.create_collection(
        "photos",
        vectors_config={},
        sparse_vectors_config={stream: models.SparseVectorParams()},
    )
    points = [qdrant_point(Item(str(i), {stream: v})) for i, v in enumerate(photos)]
    client.upsert("photos", [models.PointStruct(**point) for point in points])
    place_Q = np.full(len(texts), np.iinfo(np.int64).max)
    for q, vector in enumerate(texts):
        query = models.SparseVector(
            indices=vector.indices_M.tolist(), values=vector.values_M.tolist()
        )
        hits = client.query_points("photos", query=query, using=stream, limit=max(CUTOFFS)).points
        found = [place for place, hit in enumerate(hits) if hit.payload["item"] == str(q)]
        place_Q[q] = found[0] if found else place_Q[q]
    client.close()
    return Recall(*(float((place_Q < k).mean()) for k in CUTOFFS))


def _text_stream(store: ActivationStore) -> str:
    texts = [spec.name for spec in store.streams if spec.modality == "text"]
    if len(texts) != 1:
        raise RequestError(f"the store has {len(texts)} text streams; this searches by one")
    return texts[0]


def _qdrant():
    try:
        qdrant = importlib.import_module("qdrant_client")
    except ModuleNotFoundError:
        what = "this needs qdrant-client: run it in the environment of `make setup`"
        raise RequestError(what) from None
    return qdrant.QdrantClient(":memory:"), qdrant.models


def _matrix(vectors: list[SparseVector], artifact: Artifact) -> csr_array:
    counts = [len(v.indices_M) for v in vectors]
    values, indices = (np.concatenate([v[i] for v in vectors]) for i in (1, 0))
    shape = (len(vectors), artifact.manifest.num_concepts)
    return csr_array((values, indices, np.cumsum([0, *counts])), shape=shape)


def _recall(similar_QN: np.ndarray, own_Q: np.ndarray) -> Recall:
    true_Q1 = similar_QN[np.arange(len(own_Q)), own_Q][:, None]
    better_Q = (similar_QN > true_Q1).sum(1) + ((similar_QN == true_Q1).sum(1) - 1) / 2
    return Recall(*(float((better_Q < k).mean()) for k in CUTOFFS))


def _mapped(
    into_a: np.ndarray, into_b: np.ndarray, mean_a: np.ndarray, mean_b: np.ndarray
) -> Search:
    return lambda a, b: _unit((a - mean_a) @ into_a) @ _unit((b - mean_b) @ into_b).T


def _regularised(covariance: np.ndarray, penalty: float) -> np.ndarray:
    width = len(covariance)
    return covariance + penalty * np.trace(covariance) / width * np.eye(width)


def _whitening(covariance: np.ndarray) -> np.ndarray:
    values, vectors = eigh(covariance)
    return vectors / np.sqrt(values) @ vectors.T


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


if __name__ == "__main__":
    sys.exit(main())
