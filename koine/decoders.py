"""Codes back to activations, in any stream's space; selects nothing, runs no graph.

    activations = (codes · dictionary + pre_bias) / scale + shift

as in `AlignedDictionary.decode`: unit-norm activations, whichever stream the codes are from.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int32
from safetensors import SafetensorError, safe_open

from koine.codes import PAD
from koine.errors import ArtifactError
from koine.types import ActsND

BYTES_PER_STEP = 2**24
"""Dictionary rows that are gathered at once; bounds the memory of a call."""


class _Decoder(NamedTuple):
    dictionary_CD: Float32[np.ndarray, "C D"]
    pre_bias_D: Float32[np.ndarray, "D"]
    shift_D: Float32[np.ndarray, "D"]
    scale: Float32[np.ndarray, ""]


class Decoders:
    """The decoders of one artifact. Safe to call from several threads."""

    def __init__(self, path: Path) -> None:
        """Opens the file that holds them, and keeps it: a stream's rows are read when it is first
        decoded to, from this file even where another has taken its place. Raises `ArtifactError`.
        """
        self._path = path
        self._read: dict[str, _Decoder] = {}
        self._lock = threading.Lock()
        try:
            self._file: Any = safe_open(path, "numpy")
        except (OSError, SafetensorError) as error:
            raise ArtifactError(f"{path} cannot be read: {error}; export the run again") from error

    def decode(
        self,
        stream: str,
        indices_NK: Int32[np.ndarray, "N K"],
        values_NK: Float32[np.ndarray, "N K"],
    ) -> ActsND:
        """Activations of `stream` that the codes stand for; pads add nothing."""
        decoder = self._decoder(stream)
        rows_NK = np.where(indices_NK == PAD, 0, indices_NK)
        weights_NK = np.where(indices_NK == PAD, np.float32(0), values_NK)
        n, k = indices_NK.shape
        d_in = len(decoder.pre_bias_D)
        step = max(1, BYTES_PER_STEP // (4 * d_in * max(k, 1)))
        z_ND = np.empty((n, d_in), np.float32)
        for i in range(0, n, step):
            part = slice(i, i + step)
            gathered_NKD = decoder.dictionary_CD[rows_NK[part]]
            z_ND[part] = np.matmul(weights_NK[part, None, :], gathered_NKD)[:, 0]
        return (z_ND + decoder.pre_bias_D) / decoder.scale + decoder.shift_D

    def _decoder(self, stream: str) -> _Decoder:
        with self._lock:
            if stream not in self._read:
                self._read[stream] = self._load(stream)
            return self._read[stream]

    def _load(self, stream: str) -> _Decoder:
        try:
            return _Decoder(
                *(
                    self._file.get_tensor(f"{stream}.{name}").astype(np.float32, copy=False)
                    for name in ("dictionary", "pre_bias", "shift", "scale")
                )
            )
        except SafetensorError as error:
            raise ArtifactError(
                f"{self._path} has no decoder of stream `{stream}`: {error}; export the run again"
            ) from error
