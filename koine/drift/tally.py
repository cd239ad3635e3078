"""Counting as traffic comes, and adding up what several processes counted; compares nothing.

A client's items are alike, however they are spread over minutes and processes. So clients fall into
groups by their names, the same everywhere, and sums of a group add up over stretches of time and
processes until a window is whole; then a group is a block of the profile ("random groups", Wolter
2007 chapter 2). Items of nobody in particular are grouped by when they came.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, cast

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt32
from safetensors import SafetensorError
from safetensors.numpy import load, save  # pyright: ignore[reportUnknownVariableType]

from koine.codes import PAD, Codes
from koine.drift.cofiring import Cofiring, Top, pair_fires
from koine.drift.counts import FireCounts
from koine.drift.means import MeanCounts
from koine.errors import ArtifactError
from koine.profile import Profile, StreamProfile, histograms, jaccard, narrow

GROUPS = 64
NO_TOP: Top = np.zeros(0, np.int32)
ABOUT = "about"
"""Key of what is no array, as JSON."""


def group_of(client: str, stretch: int) -> int:
    """A client's group; for nobody in particular, that of the stretch of time."""
    return (zlib.crc32(client.encode()) if client else stretch) % GROUPS


@dataclass(frozen=True, slots=True)
class Sums:
    """A number's sums by group."""

    items_G: Int64[np.ndarray, "G"] = field(default_factory=lambda: np.zeros(GROUPS, np.int64))
    sum_G: Float64[np.ndarray, "G"] = field(default_factory=lambda: np.zeros(GROUPS))

    @classmethod
    def of(cls, values_N: Float64[np.ndarray, "N"], group_N: Int64[np.ndarray, "N"]) -> Sums:
        """Of items; numbers that are not finite are left out."""
        known_N = np.isfinite(values_N)
        group_M = group_N[known_N]
        return cls(
            np.bincount(group_M, minlength=GROUPS),
            np.bincount(group_M, values_N[known_N], minlength=GROUPS).astype(np.float64),
        )

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.items_G + other.items_G, self.sum_G + other.sum_G)

    def counts(self) -> MeanCounts:
        """Each group a block."""
        there_G = self.items_G > 0
        return MeanCounts.of_blocks(self.items_G[there_G], self.sum_G[there_G])


@dataclass(frozen=True, slots=True)
class StreamTally:
    """Sums over the items of one stream."""

    items_G: Int64[np.ndarray, "G"]
    place_M: Int64[np.ndarray, "M"]
    """Ascending: group · C + concept, where a concept is active in a group at all."""
    fires_M: UInt32[np.ndarray, "M"]
    """In how many of the group's items it is."""
    value_sums_C: Float32[np.ndarray, "C"]
    l0_K1: UInt32[np.ndarray, "K1"]
    fvu_B: UInt32[np.ndarray, "65"]
    fvu: Sums = field(default_factory=Sums)
    l0: Sums = field(default_factory=Sums)
    top_T: Top = field(default_factory=lambda: NO_TOP)
    """Concepts whose pairs are counted."""
    pairs_GP: UInt32[np.ndarray, "G P"] = field(
        default_factory=lambda: np.zeros((GROUPS, 0), np.uint32)
    )

    @classmethod
    def of(
        cls, codes: Codes, group_N: Int64[np.ndarray, "N"], num_concepts: int, top_T: Top = NO_TOP
    ) -> StreamTally:
        """Of items of these groups."""
        active_NK = codes.indices_NK != PAD
        concept_M = codes.indices_NK[active_NK]
        at_M = np.broadcast_to(group_N[:, None], active_NK.shape)[active_NK]
        place_M, fires_M = np.unique(at_M * num_concepts + concept_M, return_counts=True)
        values_C = np.bincount(concept_M, codes.values_NK[active_NK], minlength=num_concepts)
        seen = histograms(codes)
        return cls(
            np.bincount(group_N, minlength=GROUPS),
            place_M.astype(np.int64),
            fires_M.astype(np.uint32),
            values_C.astype(np.float32),
            seen.l0_K1,
            seen.fvu_B,
            Sums.of(seen.fvu_N, group_N),
            Sums.of(seen.l0_N, group_N),
            top_T,
            pair_fires(codes.indices_NK, group_N, top_T, GROUPS),
        )

    @classmethod
    def empty(cls, num_concepts: int, k: int) -> StreamTally:
        """Of no items."""
        nothing = Codes(
            np.zeros((0, k), np.int32), np.zeros((0, k), np.float32), np.zeros(0, np.float32)
        )
        return cls.of(nothing, np.zeros(0, np.int64), num_concepts)

    def __add__(self, other: StreamTally) -> StreamTally:
        both_M = np.concatenate([self.place_M, other.place_M])
        place_M, into_M = np.unique(both_M, return_inverse=True)
        fires_M = np.bincount(
            into_M, np.concatenate([self.fires_M, other.fires_M]), minlength=len(place_M)
        )
        return StreamTally(
            self.items_G + other.items_G,
            place_M,
            fires_M.astype(np.uint32),
            self.value_sums_C + other.value_sums_C,
            self.l0_K1 + other.l0_K1,
            self.fvu_B + other.fvu_B,
            self.fvu + other.fvu,
            self.l0 + other.l0,
            self.top_T,
            self.pairs_GP + other.pairs_GP,
        )

    def profile(self) -> StreamProfile:
        """Each group a block."""
        num_concepts = len(self.value_sums_C)
        there = np.flatnonzero(self.items_G)
        fires_GC = np.zeros((GROUPS, num_concepts), np.uint32)
        fires_GC.reshape(-1)[self.place_M] = self.fires_M
        return StreamProfile(
            FireCounts.of_blocks(fires_GC[there], self.items_G[there]),
            self.value_sums_C.astype(np.float64),
            self.l0_K1,
            self.fvu_B,
            self.fvu.counts(),
            self.l0.counts(),
            cofiring=Cofiring(
                self.top_T, FireCounts.of_blocks(self.pairs_GP[there], self.items_G[there])
            ),
        )


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums over items of a dictionary's streams. Adding is exact, in any order."""

    dictionary: str
    """`name@version`."""
    streams: Mapping[str, StreamTally]
    pairs: Mapping[str, Sums] = field(default_factory=dict[str, Sums])
    """By "a|b": Jaccard of the two streams' supports, over items that both encoded alone."""

    @classmethod
    def of(
        cls,
        dictionary: str,
        codes: Mapping[str, Codes],
        rows: Mapping[str, Int64[np.ndarray, "M"]],
        group_N: Int64[np.ndarray, "N"],
        num_concepts: int,
        tops: Mapping[str, Top] | None = None,
    ) -> Tally:
        """Of items of these groups; `rows[stream][i]` is the item of row i of `codes[stream]`.

        `tops`: the concepts of each stream whose pairs are counted; the same for all that is added.
        """
        pairs: dict[str, Sums] = {}
        for a, b in combinations(codes, 2):
            both, at_a, at_b = np.intersect1d(rows[a], rows[b], return_indices=True)
            agreed_M = jaccard(_part(codes[a], at_a), _part(codes[b], at_b))
            pairs[f"{a}|{b}"] = Sums.of(agreed_M, group_N[both])
        streams = {
            name: StreamTally.of(
                own, group_N[rows[name]], num_concepts, (tops or {}).get(name, NO_TOP)
            )
            for name, own in codes.items()
        }
        return cls(dictionary, streams, pairs)

    def __add__(self, other: Tally) -> Tally:
        """Both together. Raises `ArtifactError` where they are of different dictionaries."""
        if (self.dictionary, list(self.streams)) != (other.dictionary, list(other.streams)):
            raise ArtifactError(
                f"counts of {self.dictionary} ({', '.join(self.streams)}) and {other.dictionary} "
                f"({', '.join(other.streams)}) do not add up; count both with one dictionary"
            )
        pairs = {**self.pairs, **other.pairs}
        return Tally(
            self.dictionary,
            {name: self.streams[name] + other.streams[name] for name in self.streams},
            {pair: self.pairs.get(pair, Sums()) + other.pairs.get(pair, Sums()) for pair in pairs},
        )

    def profile(self) -> Profile:
        """Each group a block."""
        return Profile(
            self.dictionary,
            {name: stream.profile() for name, stream in self.streams.items()},
            {pair: sums.counts() for pair, sums in self.pairs.items()},
        )


def tally_bytes(tally: Tally) -> bytes:
    """All of it, compressed."""
    tensors: dict[str, np.ndarray] = {}
    for name, stream in tally.streams.items():
        tensors[f"{name}.items"] = narrow(stream.items_G)
        tensors[f"{name}.steps"] = narrow(np.diff(stream.place_M, prepend=0))
        tensors[f"{name}.fires"] = narrow(stream.fires_M)
        tensors[f"{name}.values"] = stream.value_sums_C
        tensors[f"{name}.l0_items"] = narrow(stream.l0_K1)
        tensors[f"{name}.fvu_items"] = narrow(stream.fvu_B)
        tensors[f"{name}.top"] = stream.top_T
        tensors[f"{name}.pair_fires"] = narrow(stream.pairs_GP)
        tensors |= _sum_arrays(f"{name}.fvu", stream.fvu) | _sum_arrays(f"{name}.l0", stream.l0)
    for pair, sums in tally.pairs.items():
        tensors |= _sum_arrays(f"agreement.{pair}", sums)
    about = {
        "dictionary": tally.dictionary,
        "streams": list(tally.streams),
        "pairs": list(tally.pairs),
    }
    tensors[ABOUT] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    return zlib.compress(save(tensors), 1)


def tally_of(content: bytes) -> Tally:
    """What `tally_bytes` made. Raises `ArtifactError` for anything else."""
    try:
        tensors = load(zlib.decompress(content))
        about = cast("dict[str, Any]", json.loads(tensors[ABOUT].tobytes()))
        return Tally(
            about["dictionary"],
            {name: _stream(tensors, name) for name in about["streams"]},
            {pair: _sums(tensors, f"agreement.{pair}") for pair in about["pairs"]},
        )
    except (zlib.error, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"a bucket's counts are damaged: {error!r}") from error


def _stream(tensors: Mapping[str, np.ndarray], name: str) -> StreamTally:
    return StreamTally(
        tensors[f"{name}.items"].astype(np.int64),
        np.cumsum(tensors[f"{name}.steps"], dtype=np.int64),
        tensors[f"{name}.fires"].astype(np.uint32),
        tensors[f"{name}.values"],
        tensors[f"{name}.l0_items"].astype(np.uint32),
        tensors[f"{name}.fvu_items"].astype(np.uint32),
        _sums(tensors, f"{name}.fvu"),
        _sums(tensors, f"{name}.l0"),
        tensors[f"{name}.top"],
        tensors[f"{name}.pair_fires"].astype(np.uint32),
    )


def _sum_arrays(name: str, sums: Sums) -> dict[str, np.ndarray]:
    return {f"{name}.sum": sums.sum_G, f"{name}.count": narrow(sums.items_G)}


def _sums(tensors: Mapping[str, np.ndarray], name: str) -> Sums:
    return Sums(tensors[f"{name}.count"].astype(np.int64), tensors[f"{name}.sum"])


def _part(codes: Codes, at_M: np.ndarray) -> Codes:
    return Codes(*(rows[at_M] for rows in codes))
