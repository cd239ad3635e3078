"""The Open Inference Protocol's bodies over HTTP: JSON, and Triton's binary tensors behind it.

A request's `Inference-Header-Content-Length` says where its JSON ends; the raw tensors follow in
the order of the inputs that have a `binary_data_size`. Answers likewise. What tensors mean stands
in `service/oip.py`, their raw form in `service/tensors.py`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from pydantic import TypeAdapter, ValidationError

from koine.errors import ImageError, RequestError
from service.jobs import image_bytes
from service.oip import IMAGE
from service.reading import read_object
from service.schemas import InferRequest
from service.schemas.inference import InferInput, InferOutput
from service.tensors import Tensor, raw_bytes, raw_tensor, typed_tensor

LENGTH_HEADER = "Inference-Header-Content-Length"
BINARY_OUTPUT = "binary_data_output"
_READ = ("BYTES", "FP32")
_FLOATS = TypeAdapter(list[float])
_STRINGS = TypeAdapter(list[str])


class Infer(NamedTuple):
    """One request, read."""

    id: str | None
    tensors: list[Tensor]
    parameters: Mapping[str, object]
    wanted: list[str] | None
    """Names of outputs; None is all of them."""
    binary: Mapping[str, bool]
    """Which of those are answered in binary."""
    binary_otherwise: bool
    """Whether the others are."""


def read_infer(body: bytes, header_length: str | None) -> Infer:
    """The request in a body. Raises `RequestError`, `ImageError` for an image that is no base64."""
    length = _json_length(body, header_length)
    asked = read_object(body[:length], InferRequest)
    parameters = asked.parameters or {}
    binary_otherwise = parameters.get(BINARY_OUTPUT, False)
    if not isinstance(binary_otherwise, bool):
        raise RequestError(
            f"the parameter `{BINARY_OUTPUT}` must be true or false, got {binary_otherwise!r}"
        )
    tensors = _tensors(asked.inputs, body, length)
    binary = _binary(asked.outputs or [], binary_otherwise)
    return Infer(asked.id, tensors, parameters, list(binary) or None, binary, binary_otherwise)


def _json_length(body: bytes, header_length: str | None) -> int:
    if header_length is None:
        return len(body)
    if not (header_length.isascii() and header_length.isdigit() and len(header_length) < 12):
        raise RequestError(f"`{LENGTH_HEADER}` must be a number of bytes, got {header_length!r}")
    length = int(header_length)
    if not 0 < length <= len(body):
        raise RequestError(
            f"`{LENGTH_HEADER}` is {length}, but the body has {len(body)} bytes; give the length "
            "of the JSON with which it begins"
        )
    return length


def _tensors(inputs: Sequence[InferInput], body: bytes, start: int) -> list[Tensor]:
    tensors: list[Tensor] = []
    for given in inputs:
        if given.datatype not in _READ:
            raise RequestError(
                f"the input `{given.name[:64]}` has datatype {given.datatype[:16]!r}; this service "
                f"reads {' and '.join(_READ)}"
            )
        size = given.parameters.binary_data_size if given.parameters else None
        if (size is None) == (given.data is None):
            raise RequestError(
                f"the input `{given.name[:64]}` must have either `data` or `binary_data_size`"
            )
        if size is None:
            tensors.append(_json_tensor(given))
            continue
        raw = body[start : start + size]
        if len(raw) < size:
            raise RequestError(
                f"the input `{given.name[:64]}` has `binary_data_size` {size}, but "
                f"{len(raw)} bytes are left of the body"
            )
        tensors.append(raw_tensor(given.name, given.datatype, given.shape, raw))
        start += size
    if start < len(body):
        raise RequestError(
            f"{len(body) - start} bytes of the body belong to no input; set `{LENGTH_HEADER}` and "
            "each `binary_data_size` to what was sent"
        )
    return tensors


def _json_tensor(given: InferInput) -> Tensor:
    flat = _flat(given)
    try:
        if given.datatype == "BYTES":
            texts = _STRINGS.validate_python(flat, strict=True)
            values: list[float] | list[bytes] = [
                _element(given.name, n, text) for n, text in enumerate(texts)
            ]
        else:
            values = _FLOATS.validate_python(flat, strict=True)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise RequestError(
            f"`data` of the input `{given.name[:64]}` at {fault['loc'][0]}: {fault['msg']}"
        ) from None
    with np.errstate(over="ignore"):  # what is beyond float32 costs its item only
        return typed_tensor(given.name, given.datatype, given.shape, values)


def _flat(given: InferInput) -> list[Any]:
    """The elements row by row, whether they came nested or flat."""
    data = cast("list[Any]", given.data)
    if len(given.shape) == 1 or not data or not isinstance(data[0], list):
        return data
    width = given.shape[1]
    for row in data:
        if not isinstance(row, list) or len(cast("list[Any]", row)) != width:
            raise RequestError(
                f"`data` of the input `{given.name[:64]}` must have rows of {width} for shape "
                f"{given.shape}"
            )
    return list(itertools.chain.from_iterable(data))


def _element(name: str, n: int, text: str) -> bytes:
    """A string's bytes; JSON has an image's in base64. An empty one stands for none."""
    if name != IMAGE or not text:
        return text.encode()
    try:
        return image_bytes(text)
    except ImageError as error:
        raise ImageError(f"item {n}: {error}") from None


def _binary(outputs: Sequence[InferOutput], otherwise: bool) -> dict[str, bool]:
    binary: dict[str, bool] = {}
    for output in outputs:
        if output.name in binary:
            raise RequestError(f"the output `{output.name[:64]}` is given twice; give it once")
        own = output.parameters.binary_data if output.parameters else None
        binary[output.name] = otherwise if own is None else own
    return binary


class Answered(NamedTuple):
    """The tensors of an answer: their description, and the raw ones behind it."""

    outputs: list[dict[str, Any]]
    raw: list[bytes]


def answered(tensors: Sequence[Tensor], asked: Infer) -> Answered:
    """The tensors as the request wants them."""
    outputs: list[dict[str, Any]] = []
    raw: list[bytes] = []
    for tensor in tensors:
        output: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.shape),
        }
        if asked.binary.get(tensor.name, asked.binary_otherwise):
            raw.append(raw_bytes(tensor))
            output["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            output["data"] = _numbers(tensor)
        outputs.append(output)
    return Answered(outputs, raw)


def _numbers(tensor: Tensor) -> list[int] | list[float | None]:
    """The elements, row by row; null is NaN, which JSON does not have."""
    assert isinstance(tensor.data, np.ndarray)
    values: list[Any] = tensor.data.reshape(-1).tolist()
    if tensor.datatype == "INT32":
        return values
    # nine digits name every float32
    return [float(f"{value:.9g}") if math.isfinite(value) else None for value in values]
