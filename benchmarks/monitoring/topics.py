"""Real photographs and captions whose topics change: does the verdict name the topic?

Needs `../shared/real/photos` (4,000 photographs of Flickr8k with captions, which no user has) and
the artifact that `training` made of them, its concepts named (`KOINE_PHOTOS` says where, if not in
runs/photos/run/artifact); without them it says so and measures nothing.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.entry import Entry, entry
from benchmarks.monitoring.peers import dataset_drifted, evidently
from benchmarks.monitoring.traffic import Fires
from koine.artifact import Artifact
from koine.codes import Codes
from koine.concepts import concept_labels, read_concepts
from koine.drift.compare import Comparison, compare
from koine.drift.nulls import measure_null
from koine.drift.verdict import DriftConfig
from koine.encoder import ConceptEncoder
from koine.manifest import CONCEPTS, PROFILE
from koine.profile import Profile, StreamProfile, read_profile

ROOT = Path(__file__).parents[2]
PHOTOS = ROOT.parent / "shared" / "real" / "photos"
ARTIFACT = Path(os.environ.get("KOINE_PHOTOS", ROOT / "runs" / "photos" / "run" / "artifact"))
TOPICS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "dog": (("dog",), ("dog", "greyhound", "puppy")),
    "snow": (("snow",), ("snow", "ski", "sled")),
    "water": (("water",), ("water", "pool", "swim", "lake", "boat", "surf")),
    "beach": (("beach",), ("beach", "sand", "ocean", "surf")),
    "bicycle": (("bicycle",), ("bicycle", "bike", "biking", "cyclist")),
    "football": (("soccer", "football"), ("soccer", "football")),
}
"""Which photographs are of the topic, by the words that two of their captions share, and which
concepts are, by their names."""
TIMES = 3
SEEDS, QUIET = 10, 40
FIRST = (5, 20)
BATCH = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """Where reference and windows come from; they share no photograph."""

    name: str
    trained: bool
    """The reference is the artifact's: fires of the photographs it was trained on, means of the
    held-out ones (`val` and `test`). Windows are of held-out ones, quiet windows of `test` alone.
    Else both are of all photographs, at random."""
    items: int
    """Of a window."""
    reference: int = 2500


WAYS = (
    Way(name="artifact's reference, held-out photographs", trained=True, items=250),
    Way(name="2,500 photographs, 500 others", trained=False, items=500),
)


class Photographs:
    """Words and codes of all photographs."""

    def __init__(self, artifact: Artifact, folder: Path) -> None:
        lines = (folder / "captions.jsonl").read_text(encoding="utf-8").splitlines()
        rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self.words = [set(row["labels"]) for row in rows]
        self.split_N = np.array([row["split"] for row in rows])
        self.artifact = artifact
        self.labels = concept_labels(read_concepts(artifact.file(CONCEPTS)))
        self.codes = encoded(ConceptEncoder(artifact), folder, rows)

    def about(self, topic: str) -> np.ndarray:
        """Which photographs are."""
        return np.array([not words.isdisjoint(TOPICS[topic][0]) for words in self.words])

    def profile(self, rows: np.ndarray, *, null: bool = False) -> Profile:
        """Of some photographs, each a block of its own."""
        streams: dict[str, StreamProfile] = {}
        count, block_N = self.artifact.manifest.num_concepts, np.arange(len(rows))
        for name, codes in self.codes.items():
            part = Codes(*(each[rows] for each in codes))
            own = StreamProfile.of(part, block_N, count)
            if null:
                own = replace(own, null=measure_null(part.indices_NK, block_N, count, seed=0))
            streams[name] = own
        return Profile(self.artifact.manifest.title, streams)


def entries() -> list[Entry]:
    """Topics named and quiet windows that ring; none where the photographs lack."""
    for needed in (PHOTOS, ARTIFACT):
        if not needed.exists():
            print(f"topics: not measured, there is no {needed}")
            return []
    seen = Photographs(Artifact.open(ARTIFACT, verify=False), PHOTOS)
    if not seen.labels:
        print("topics: not measured, no concept is named: `python -m training name`, then `export`")
        return []
    found: list[Entry] = []
    for way in WAYS:
        found += _quiet(seen, way)
        for topic in TOPICS:
            found += _topic(seen, way, topic)
    return found


def encoded(
    encoder: ConceptEncoder, folder: Path, rows: Sequence[dict[str, Any]]
) -> dict[str, Codes]:
    """Codes of photographs and of one of the captions of each, each stream on its own."""
    parts: dict[str, list[Codes]] = {name: [] for name in encoder.streams}
    for start in range(0, len(rows), BATCH):
        some = rows[start : start + BATCH]
        for name, spec in encoder.streams.items():
            if spec.modality == "text":
                batch = encoder.tokenize(name, [_caption(row, at) for at, row in enumerate(some)])
            else:
                images = [Image.open(folder / row["image"]) for row in some]
                batch = np.stack([encoder.preprocess(name, one) for one in images])
            acts_ND = encoder.activations(name, batch)
            parts[name].append(encoder.encode({name: acts_ND})[name])
    return {
        name: Codes(*(np.concatenate(each) for each in zip(*several, strict=True)))
        for name, several in parts.items()
    }


def _caption(row: dict[str, Any], number: int) -> str:
    return row["captions"][number % len(row["captions"])]


def drawn(
    about_N: np.ndarray, split_N: np.ndarray, way: Way, times: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the reference and of a window in which what `about_N` marks is `times` as frequent,
    or as frequent as there is of it."""
    rng = np.random.default_rng(seed)
    if way.trained:
        unseen_N = split_N == "test" if times == 1 else split_N != "train"
        then, rest = np.flatnonzero(split_N == "train"), rng.permutation(np.flatnonzero(unseen_N))
    else:
        order = rng.permutation(len(about_N))
        then, rest = order[: way.reference], order[way.reference :]
    if times == 1:
        return then, rest[: way.items]
    wanted = round(times * float(about_N[then].mean()) * way.items)
    of_it = rest[about_N[rest]][:wanted]
    others = rest[~about_N[rest]][: way.items - len(of_it)]
    return then, np.concatenate([of_it, others])


def _told(seen: Photographs, way: Way, topic: str | None, seed: int) -> tuple[Profile, Profile]:
    about_N = seen.about(topic or next(iter(TOPICS)))
    then, now = drawn(about_N, seen.split_N, way, TIMES if topic else 1, seed)
    if way.trained:
        return read_profile(seen.artifact.file(PROFILE)), seen.profile(now)
    return seen.profile(then, null=topic is None), seen.profile(now)


def _quiet(seen: Photographs, way: Way) -> Iterator[Entry]:
    rang: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for seed in range(QUIET):
        pair = _told(seen, way, None, seed)
        told = compare(*pair, DriftConfig())
        for name, verdict in told.streams.items():
            rang["concepts"] += bool(verdict.concepts)
            rang["verdict"] += verdict.state == "drift"
            rang["Evidently"] += bool(_evidently(pair, name).flagged_C.any())
            reasons.update(f"{name} {one.name}" for one in verdict.statistics if one.drifted)
    windows = QUIET * len(seen.codes)
    about = f"photographs, quiet, {way.name}, windows of {way.items}"
    print(f"{about}: {dict(rang)} of {windows}; statistics {dict(reasons)}", flush=True)
    for ours, theirs in (("concepts", "Evidently"), ("verdict", "concepts")):
        yield entry(
            f"{about}: {ours} / {theirs}",
            rang[ours] / windows,
            rang[theirs] / windows,
            ratio=1 - rang[ours] / windows,
            target=None,
            unit="share of windows that ring",
        )


def _topic(seen: Photographs, way: Way, topic: str) -> Iterator[Entry]:
    hits: Counter[str] = Counter()
    where: Counter[str] = Counter()
    example = ""
    for seed in range(SEEDS):
        pair = _told(seen, way, topic, seed)
        told = compare(*pair, DriftConfig())
        where[told.where] += 1
        example = example or _names(seen, told)
        for name, verdict in told.streams.items():
            ids = [one.id for one in verdict.concepts]
            others = np.argsort(-_evidently(pair, name).score_C)
            hits["drift"] += verdict.state == "drift"
            hits["dataset"] += dataset_drifted(_evidently(pair, name))
            for first in FIRST:
                hits[f"koine {first}"] += _is_named(seen, topic, ids[:first])
                hits[f"Evidently {first}"] += _is_named(seen, topic, others[:first].tolist())
    windows = SEEDS * len(seen.codes)
    about = f"photographs, {topic} ×{TIMES}, {way.name}"
    shares = {name: count / windows for name, count in hits.items()}
    print(f"{about}: {shares}, where {dict(where)}; {example}", flush=True)
    for first in FIRST:
        yield entry(
            f"{about}: topic among the first {first} concepts, koine / Evidently's scores",
            shares[f"koine {first}"],
            shares[f"Evidently {first}"],
            ratio=shares[f"koine {first}"],
            target=None,
            unit="share of windows and streams",
        )


def _evidently(pair: tuple[Profile, Profile], stream: str) -> Any:
    both = [profile.streams[stream].fires for profile in pair]
    return evidently(*(Fires(each.items, each.fires_C.astype(np.int64)) for each in both))


def _is_named(seen: Photographs, topic: str, ids: Sequence[int]) -> bool:
    words = TOPICS[topic][1]
    return any(word in seen.labels.get(one, "") for one in ids for word in words)


def _names(seen: Photographs, told: Comparison) -> str:
    return "; ".join(
        f"{name}: "
        + ", ".join(f"{seen.labels.get(c.id, c.id)} ×{c.ratio:.1f}" for c in verdict.concepts[:5])
        for name, verdict in told.streams.items()
    )
