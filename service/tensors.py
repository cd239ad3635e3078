"""Tensors of the Open Inference Protocol and their raw bytes; knows no name, no dictionary."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from koine.errors import RequestError

_DTYPES = {"FP32": "<f4", "INT32": "<i4"}
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named array; `data` is a list where `datatype` is BYTES, else an array of that shape."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: np.ndarray | list[bytes]


def raw_tensor(name: str, datatype: str, shape: Sequence[int], raw: bytes) -> Tensor:
    """A tensor from its raw form: little-endian elements, row by row; those of BYTES each behind
    its length in four bytes. Raises `RequestError`."""
    count = _count(name, datatype, shape)
    if datatype == "BYTES":
        return Tensor(name, datatype, tuple(shape), _elements(name, raw, count))
    if len(raw) != 4 * count:
        raise RequestError(
            f"the tensor `{name}` has {len(raw)} bytes; shape {list(shape)} of {datatype} takes "
            f"{4 * count}"
        )
    array = np.frombuffer(raw, _DTYPES[datatype]).reshape(shape)
    return Tensor(name, datatype, tuple(shape), array)


def typed_tensor(
    name: str, datatype: str, shape: Sequence[int], values: Sequence[float] | Sequence[bytes]
) -> Tensor:
    """A tensor from its elements, row by row. Raises `RequestError`."""
    count = _count(name, datatype, shape)
    if len(values) != count:
        raise RequestError(
            f"the tensor `{name}` has {len(values)} elements of {datatype}; shape {list(shape)} "
            f"takes {count}"
        )
    if datatype == "BYTES":
        elements = [value for value in values if isinstance(value, bytes)]
        return Tensor(name, datatype, tuple(shape), elements)
    array = np.array(values, _DTYPES[datatype]).reshape(shape)
    return Tensor(name, datatype, tuple(shape), array)


def raw_bytes(tensor: Tensor) -> bytes:
    """A tensor's raw form."""
    if isinstance(tensor.data, list):
        return b"".join(_LENGTH.pack(len(element)) + element for element in tensor.data)
    return tensor.data.astype(_DTYPES[tensor.datatype], copy=False).tobytes()


def _count(name: str, datatype: str, shape: Sequence[int]) -> int:
    if datatype != "BYTES" and datatype not in _DTYPES:
        raise RequestError(
            f"the tensor `{name[:64]}` has datatype {datatype[:16]!r}; this service reads BYTES "
            "and FP32"
        )
    if len(shape) not in (1, 2) or min(shape) < 0 or max(shape) >= 2**31:
        raise RequestError(
            f"the tensor `{name[:64]}` has shape {list(shape[:8])}; give it one or two sizes"
        )
    return math.prod(shape)


def _elements(name: str, raw: bytes, count: int) -> list[bytes]:
    elements: list[bytes] = []
    at = 0
    while at < len(raw) and len(elements) < count:
        if at + _LENGTH.size > len(raw):
            break
        (length,) = _LENGTH.unpack_from(raw, at)
        end = at + _LENGTH.size + length
        if end > len(raw):
            break
        elements.append(raw[at + _LENGTH.size : end])
        at = end
    if at != len(raw) or len(elements) != count:
        raise RequestError(
            f"the tensor `{name}` has {len(raw)} bytes that are not {count} elements, each behind "
            "its length in four bytes"
        )
    return elements
