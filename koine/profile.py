"""How often and how strongly concepts fire on reference data; compares nothing.

`profile/reference.safetensors` holds, per stream: `fires` uint32 [C], `value_sums` float64 [C],
`l0` uint32 [K + 1] (items by how many concepts are active), `fvu` uint32 [65] (items by fvu, in
steps of 1/32 from 0 to 2, the last for 2 and above) and `items` uint32 [1].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Float64, UInt32
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

from koine.codes import PAD, Codes
from koine.errors import ArtifactError

SCHEMA = "koine.profile/1"
FVU_STEP = 1 / 32
FVU_BINS = 65


@dataclass(frozen=True, slots=True)
class StreamProfile:
    """Counts over the items of one stream, encoded independently."""

    items: int
    fires_C: UInt32[np.ndarray, "C"]
    """Items in which each concept is active."""
    value_sums_C: Float64[np.ndarray, "C"]
    """Sum of each concept's values."""
    l0_K1: UInt32[np.ndarray, "K1"]
    """Items with 0, 1, … K active concepts."""
    fvu_B: UInt32[np.ndarray, "65"]
    """Items by fvu."""

    @classmethod
    def empty(cls, num_concepts: int, k: int) -> StreamProfile:
        """Counts of no items."""
        return cls(
            0,
            np.zeros(num_concepts, np.uint32),
            np.zeros(num_concepts, np.float64),
            np.zeros(k + 1, np.uint32),
            np.zeros(FVU_BINS, np.uint32),
        )

    def counting(self, codes: Codes) -> StreamProfile:
        """These counts and those of `codes` together."""
        active_NK = codes.indices_NK != PAD
        fired_M, values_M = codes.indices_NK[active_NK], codes.values_NK[active_NK]
        num_concepts, num_l0 = len(self.fires_C), len(self.l0_K1)
        bins_N = np.clip(codes.fvu_N / FVU_STEP, 0, FVU_BINS - 1).astype(np.int64)
        l0_N = active_NK.sum(1)
        return StreamProfile(
            self.items + len(codes.fvu_N),
            self.fires_C + np.bincount(fired_M, minlength=num_concepts).astype(np.uint32),
            self.value_sums_C + np.bincount(fired_M, values_M, minlength=num_concepts),
            self.l0_K1 + np.bincount(l0_N, minlength=num_l0).astype(np.uint32),
            self.fvu_B + np.bincount(bins_N, minlength=FVU_BINS).astype(np.uint32),
        )

    @property
    def rates_C(self) -> Float64[np.ndarray, "C"]:
        """Share of the items in which each concept is active; 0 without items."""
        return self.fires_C / max(self.items, 1)


def write_profile(path: Path, profile: Mapping[str, StreamProfile]) -> None:
    """Writes the counts of every stream into one file."""
    tensors: dict[str, np.ndarray] = {}
    for name, stream in profile.items():
        tensors[f"{name}.items"] = np.array([stream.items], np.uint32)
        tensors[f"{name}.fires"] = stream.fires_C
        tensors[f"{name}.value_sums"] = stream.value_sums_C
        tensors[f"{name}.l0"] = stream.l0_K1
        tensors[f"{name}.fvu"] = stream.fvu_B
    save_file(tensors, path, metadata={"schema": SCHEMA})


def read_profile(path: Path) -> dict[str, StreamProfile]:
    """The counts by stream. Raises `ArtifactError` for an unknown schema or a broken file."""
    try:
        opened: Any = safe_open(path, "numpy")
        with opened as file:
            schema = cast("dict[str, str]", file.metadata() or {}).get("schema")
            tensors: dict[str, np.ndarray] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}; export the run again") from error
    if schema != SCHEMA:
        raise ArtifactError(f"{path} has schema {schema!r}; this Koine reads {SCHEMA!r}")
    return {
        name: StreamProfile(
            int(tensors[f"{name}.items"][0]),
            tensors[f"{name}.fires"],
            tensors[f"{name}.value_sums"],
            tensors[f"{name}.l0"],
            tensors[f"{name}.fvu"],
        )
        for name in (key.removesuffix(".items") for key in tensors if key.endswith(".items"))
    }
