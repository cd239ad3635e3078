"""The JSON of the Open Inference Protocol, `/v2`, with Triton's binary tensors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from service.schemas.items import Body

MOST_TENSORS = 256
"""Inputs or outputs of one request; a dictionary has a few for each stream."""
Parameters = dict[str, bool | int | float | str]
_Shape = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1, max_length=2)]


class InputParameters(Body):
    """Where an input's elements are."""

    binary_data_size: int | None = Field(
        default=None, ge=0, description="Bytes behind the JSON; goes in place of `data`."
    )


class OutputParameters(Body):
    """How an output is answered."""

    binary_data: bool | None = None


class InferInput(Body):
    """A tensor: `image` BYTES, `text` BYTES or `activations.<stream>` FP32."""

    name: str
    datatype: str
    shape: _Shape
    parameters: InputParameters | None = None
    data: list[Any] | None = Field(
        default=None,
        description="The elements, flat or nested: texts as strings, images in base64, numbers.",
    )


class InferOutput(Body):
    """An output that is wanted: `<stream>.indices`, `<stream>.values` or `<stream>.fvu`."""

    name: str
    parameters: OutputParameters | None = None


class InferRequest(Body):
    """Body of `POST /v2/models/{model}/infer`, or its first part."""

    id: str | None = None
    parameters: Parameters | None = Field(
        default=None,
        description="`streams` (with commas), `mode`, `top_k`, `partial`, `binary_data_output`.",
    )
    inputs: list[InferInput] = Field(min_length=1, max_length=MOST_TENSORS)
    outputs: Annotated[list[InferOutput], Field(max_length=MOST_TENSORS)] | None = None


class AnsweredParameters(BaseModel):
    """Where an answered tensor's elements are."""

    binary_data_size: int


class AnsweredTensor(BaseModel):
    """A tensor of the answer; a NaN is null."""

    name: str
    datatype: Literal["INT32", "FP32"]
    shape: list[int]
    parameters: AnsweredParameters | None = None
    data: list[float | None] | None = None


class InferResponse(BaseModel):
    """Answer of `POST /v2/models/{model}/infer`, or its first part."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[AnsweredTensor]


class ServerMetadata(BaseModel):
    """Answer of `GET /v2`."""

    name: str
    version: str
    extensions: list[str]


class ServerLive(BaseModel):
    """Answer of `GET /v2/health/live`."""

    live: Literal[True]


class ServerReady(BaseModel):
    """Answer of `GET /v2/health/ready`."""

    ready: Literal[True]


class ModelReady(BaseModel):
    """Answer of `GET /v2/models/{model}/ready`."""

    name: str
    ready: Literal[True]


class TensorMetadata(BaseModel):
    """A tensor that a model takes or gives."""

    name: str
    datatype: str
    shape: list[int] = Field(description="-1 is any size.")


class ModelMetadata(BaseModel):
    """Answer of `GET /v2/models/{model}`."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ModelConfig(BaseModel):
    """Answer of `GET /v2/models/{model}/config`, as Triton has it."""

    name: str
    platform: str
    backend: str
    max_batch_size: int
    input: list[dict[str, Any]]
    output: list[dict[str, Any]]
    dynamic_batching: dict[str, Any]
