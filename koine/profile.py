"""What is kept of many codes so that drift can be told from them; compares nothing.

A profile holds exact sums, so that profiles of parts add up to that of the whole. In a file
(safetensors) each count takes the narrowest unsigned integers that hold it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from jaxtyping import Float64, Int64, UInt32
from safetensors import SafetensorError
from safetensors.numpy import load, save  # pyright: ignore[reportUnknownVariableType]

from koine.codes import PAD, Codes
from koine.drift.cofiring import Cofiring
from koine.drift.counts import FireCounts
from koine.drift.means import MeanCounts
from koine.drift.nulls import Null
from koine.errors import ArtifactError

SCHEMA = "koine.profile/2"
ABOUT = "about"
"""Key of what is no array, as JSON."""
FVU_STEP = 1 / 32
FVU_BINS = 65
MOST_FVU = FVU_STEP * (FVU_BINS - 1)
"""2: larger ones count as this, so that one strange item does not move a mean."""

_LENGTH = struct.Struct("<Q")
"""Of the header, at the beginning of a safetensors file."""
_WIDTHS = (np.uint8, np.uint16, np.uint32, np.uint64)


@dataclass(frozen=True, slots=True)
class StreamProfile:
    """Sums over the items of one stream, encoded independently."""

    fires: FireCounts
    value_sums_C: Float64[np.ndarray, "C"]
    """Sum of each concept's values."""
    l0_K1: UInt32[np.ndarray, "K1"]
    """Items with 0, 1, … K active concepts."""
    fvu_B: UInt32[np.ndarray, "65"]
    """Items by fvu, in steps of 1/32 from 0 to 2, the last for 2 and above."""
    fvu: MeanCounts = MeanCounts()
    l0: MeanCounts = MeanCounts()
    null: Null | None = None
    """How far quiet windows lie from this profile; only of a reference."""
    cofiring: Cofiring | None = None
    """Of the most frequent concepts of the reference."""

    @classmethod
    def empty(cls, num_concepts: int, k: int) -> StreamProfile:
        """Sums over no items."""
        return cls(
            FireCounts.empty(num_concepts),
            np.zeros(num_concepts, np.float64),
            np.zeros(k + 1, np.uint32),
            np.zeros(FVU_BINS, np.uint32),
        )

    @classmethod
    def of(cls, codes: Codes, block_N: Int64[np.ndarray, "N"], num_concepts: int) -> StreamProfile:
        """Sums over items whose blocks (clients, stretches of time) have these numbers."""
        active_NK = codes.indices_NK != PAD
        values_C = np.bincount(
            codes.indices_NK[active_NK], codes.values_NK[active_NK], minlength=num_concepts
        )
        seen = histograms(codes)
        return cls(
            FireCounts.of_codes(codes, block_N, num_concepts),
            values_C.astype(np.float64),
            seen.l0_K1,
            seen.fvu_B,
            MeanCounts.of(seen.fvu_N, block_N),
            MeanCounts.of(seen.l0_N, block_N),
        )

    def __add__(self, other: StreamProfile) -> StreamProfile:
        """Both together; their blocks are different ones. Has no null: that is measured anew."""
        return StreamProfile(
            self.fires + other.fires,
            self.value_sums_C + other.value_sums_C,
            self.l0_K1 + other.l0_K1,
            self.fvu_B + other.fvu_B,
            self.fvu + other.fvu,
            self.l0 + other.l0,
            cofiring=None if self.cofiring is None else self.cofiring.plus(other.cofiring),
        )

    @property
    def items(self) -> int:
        """N."""
        return self.fires.items

    @property
    def rates_C(self) -> Float64[np.ndarray, "C"]:
        """Share of the items in which each concept is active; 0 without items."""
        return self.fires.fires_C / max(self.items, 1)


@dataclass(frozen=True, slots=True)
class Profile:
    """What is kept of the codes of a dictionary's streams."""

    dictionary: str
    """`name@version`."""
    streams: Mapping[str, StreamProfile]
    agreement: Mapping[str, MeanCounts] = field(default_factory=dict[str, MeanCounts])
    """By "a|b": Jaccard of the two streams' supports, over items that both encoded alone."""

    def __add__(self, other: Profile) -> Profile:
        """Both together. Raises `ArtifactError` where they are of different dictionaries."""
        if (self.dictionary, list(self.streams)) != (other.dictionary, list(other.streams)):
            raise ArtifactError(
                f"profiles of {self.dictionary} ({', '.join(self.streams)}) and "
                f"{other.dictionary} ({', '.join(other.streams)}) do not add up; profile both "
                "with the same dictionary"
            )
        pairs = {**self.agreement, **other.agreement}
        return Profile(
            self.dictionary,
            {name: self.streams[name] + other.streams[name] for name in self.streams},
            {
                pair: self.agreement.get(pair, MeanCounts())
                + other.agreement.get(pair, MeanCounts())
                for pair in pairs
            },
        )


class Histograms(NamedTuple):
    """How well items are explained and by how many concepts, each and counted."""

    fvu_N: Float64[np.ndarray, "N"]
    """At most `MOST_FVU`."""
    fvu_B: UInt32[np.ndarray, "65"]
    l0_N: Float64[np.ndarray, "N"]
    l0_K1: UInt32[np.ndarray, "K1"]


def histograms(codes: Codes) -> Histograms:
    """Of these items."""
    active_NK = codes.indices_NK != PAD
    l0_N = active_NK.sum(1)
    fvu_N = np.clip(codes.fvu_N.astype(np.float64), 0, MOST_FVU)
    bin_N = (fvu_N[np.isfinite(fvu_N)] / FVU_STEP).astype(np.int64)
    return Histograms(
        fvu_N,
        np.bincount(bin_N, minlength=FVU_BINS).astype(np.uint32),
        l0_N.astype(np.float64),
        np.bincount(l0_N, minlength=active_NK.shape[1] + 1).astype(np.uint32),
    )


def jaccard(a: Codes, b: Codes) -> Float64[np.ndarray, "N"]:
    """Of the two supports of each item; NaN where both are empty."""
    same_NKK = (a.indices_NK[:, :, None] == b.indices_NK[:, None, :]) & (
        a.indices_NK[:, :, None] != PAD
    )
    shared_N = same_NKK.sum((1, 2))
    either_N = (a.indices_NK != PAD).sum(1) + (b.indices_NK != PAD).sum(1) - shared_N
    with np.errstate(invalid="ignore"):
        return shared_N / either_N


def write_profile(path: Path, profile: Profile) -> None:
    """Writes a profile into one file."""
    path.write_bytes(profile_bytes(profile))


def profile_bytes(profile: Profile) -> bytes:
    """What `write_profile` writes; equal profiles have equal bytes."""
    tensors: dict[str, np.ndarray] = {}
    for name, stream in profile.streams.items():
        tensors |= _fire_arrays(f"{name}.fires", stream.fires)
        if stream.cofiring is not None:
            tensors[f"{name}.cofiring.top"] = stream.cofiring.top_T
            tensors |= _fire_arrays(f"{name}.cofiring.fires", stream.cofiring.fires)
        tensors[f"{name}.value_sums"] = stream.value_sums_C.astype(np.float32)
        tensors[f"{name}.l0_items"] = stream.l0_K1
        tensors[f"{name}.fvu_items"] = stream.fvu_B
        tensors[f"{name}.fvu"] = _mean_array(stream.fvu)
        tensors[f"{name}.l0"] = _mean_array(stream.l0)
        if stream.null is not None:
            tensors[f"{name}.null.sizes"] = stream.null.sizes_W
            tensors[f"{name}.null.quantiles"] = stream.null.quantiles_WQ
    for pair, counts in profile.agreement.items():
        tensors[f"agreement.{pair}"] = _mean_array(counts)
    about = {
        "schema": SCHEMA,
        "dictionary": profile.dictionary,
        "streams": list(profile.streams),
        "pairs": list(profile.agreement),
    }
    # one key: safetensors writes several in any order, and equal profiles shall be equal files
    return save(tensors, metadata={ABOUT: json.dumps(about)})


def read_profile(path: Path) -> Profile:
    """Raises `ArtifactError` for an unknown schema or a broken file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error}; export the run again") from error
    return profile_of(content, str(path))


def profile_of(content: bytes, name: str) -> Profile:
    """The profile that `profile_bytes` made; `name` is what errors call it.

    Raises `ArtifactError` as `read_profile` does.
    """
    try:
        tensors = load(content)
        header = json.loads(content[_LENGTH.size : _LENGTH.size + _LENGTH.unpack_from(content)[0]])
        about = json.loads(cast("dict[str, str]", header.get("__metadata__", {})).get(ABOUT, "{}"))
    except (SafetensorError, ValueError, struct.error) as error:
        raise ArtifactError(f"{name} cannot be read: {error}; export the run again") from error
    if about.get("schema") != SCHEMA:
        raise ArtifactError(
            f"{name} has schema {about.get('schema')!r}; this Koine reads {SCHEMA!r}"
        )
    try:
        return Profile(
            about["dictionary"],
            {name: _stream(tensors, name) for name in about["streams"]},
            {pair: _mean(tensors[f"agreement.{pair}"]) for pair in about["pairs"]},
        )
    except (KeyError, ValueError, TypeError) as error:
        raise ArtifactError(f"{name} is no whole profile ({error!r}); make it again") from error


def _stream(tensors: Mapping[str, np.ndarray], name: str) -> StreamProfile:
    cofiring = None
    if f"{name}.cofiring.top" in tensors:
        top_T = tensors[f"{name}.cofiring.top"].astype(np.int32)
        cofiring = Cofiring(top_T, _fires(tensors, f"{name}.cofiring.fires"))
    null = None
    if f"{name}.null.sizes" in tensors:
        null = Null(tensors[f"{name}.null.sizes"], tensors[f"{name}.null.quantiles"])
    return StreamProfile(
        _fires(tensors, f"{name}.fires"),
        tensors[f"{name}.value_sums"].astype(np.float64),
        tensors[f"{name}.l0_items"],
        tensors[f"{name}.fvu_items"],
        _mean(tensors[f"{name}.fvu"]),
        _mean(tensors[f"{name}.l0"]),
        null,
        cofiring,
    )


def _fire_arrays(name: str, fires: FireCounts) -> dict[str, np.ndarray]:
    return {
        f"{name}.{f.name}": narrow(np.asarray(getattr(fires, f.name))) for f in fields(FireCounts)
    }


def _fires(tensors: Mapping[str, np.ndarray], name: str) -> FireCounts:
    counts: dict[str, Any] = {}
    for f in fields(FireCounts):
        array = tensors[f"{name}.{f.name}"]
        if array.ndim == 0:
            counts[f.name] = int(array)
        else:
            wide = f.name in ("fire_squares_C", "fire_items_C")
            counts[f.name] = array.astype(np.uint64 if wide else np.uint32)
    return FireCounts(**counts)


def narrow(array: np.ndarray) -> np.ndarray:
    """Counts as the narrowest unsigned integers that hold them."""
    largest = int(array.max(initial=0))
    return array.astype(next(w for w in _WIDTHS if largest <= np.iinfo(w).max))


def _mean_array(counts: MeanCounts) -> np.ndarray:
    return np.array([getattr(counts, f.name) for f in fields(MeanCounts)], np.float64)


def _mean(array: np.ndarray) -> MeanCounts:
    items, blocks, squares, *sums = array.tolist()
    return MeanCounts(int(items), int(blocks), int(squares), *sums)
