"""ONNX Runtime behind one small typed door; the only file that imports it."""
# pyright: basic
# onnxruntime ships no types: the strict rules would report each of its names

from __future__ import annotations

import ctypes
import logging
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NoSuchFile,
    NotImplemented,
    RuntimeException,
)

from koine.errors import ArtifactError, EncoderError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
_OPTIONS: dict[str, dict[str, str]] = {CUDA: {"use_tf32": "0"}}  # TF32's 1e-3 would move supports
_LOAD_FAULTS = (
    Fail, InvalidArgument, InvalidGraph, InvalidProtobuf, NoSuchFile, NotImplemented,
    RuntimeException,
)  # fmt: skip

log = logging.getLogger(__name__)


def choose_providers(wanted: Sequence[str] | None) -> list[str]:
    """Execution providers to ask for: `wanted`, or CUDA where a GPU answers and CPU after it.

    Raises `EncoderError` for a provider that this ONNX Runtime does not have.
    """
    available = cast("list[str]", ort.get_available_providers())
    if wanted is None:
        return [CUDA, CPU] if CUDA in available and cuda_devices() > 0 else [CPU]
    for name in wanted:
        if name not in available:
            raise EncoderError(
                f"ONNX Runtime has no execution provider {name!r}; it has {', '.join(available)}"
            )
    return list(wanted)


class Session:
    """One loaded graph."""

    def __init__(
        self,
        path: Path,
        providers: Sequence[str],
        *,
        threads: int = 0,
        required: bool = False,
        gpu: int = 0,
    ) -> None:
        """Loads `path` on the first of `providers` that works, or, if `required`, on the first.

        `gpu`: which of the visible GPUs a graph on CUDA runs on.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # several graphs share the cores: threads that spin between calls would starve the others
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # x86 without VNNI adds two 8-bit products in 16 bits, which overflow: there the exact
        # kernels, which are slower
        options.add_session_config_entry("session.x64quantprecision", "0" if has_vnni() else "1")
        if providers[0] == CUDA:
            ort.preload_dlls()
        try:
            self._session: Any = ort.InferenceSession(
                str(path), options, providers=[(p, _options(p, gpu)) for p in providers]
            )
        except _LOAD_FAULTS as error:
            raise ArtifactError(
                f"{path} cannot be loaded: {error}. Export the run again"
            ) from error
        self.provider = cast("str", self._session.get_providers()[0])
        if self.provider != providers[0]:
            message = f"{providers[0]} did not load, {self.provider} did; see onnxruntime's errors"
            if required:
                raise EncoderError(f"{message}, or choose {self.provider}")
            log.warning(message)

    @property
    def inputs(self) -> list[str]:
        """Names of the graph's inputs."""
        return [node.name for node in self._session.get_inputs()]

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name."""
        names = [node.name for node in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, dict(inputs)), strict=True))


def _options(provider: str, gpu: int) -> dict[str, str]:
    own = {"device_id": str(gpu)} if provider == CUDA else {}
    return _OPTIONS.get(provider, {}) | own


@cache
def has_vnni(info: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor says that it adds products of 8-bit numbers without overflow."""
    return info.is_file() and "vnni" in info.read_text(encoding="utf-8", errors="replace")


def cuda_devices() -> int:
    """How many GPUs the NVIDIA driver reports, 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def runtime_version() -> str:
    """Version of ONNX Runtime."""
    return ort.__version__
