"""The JSON of `/v1/embeddings`, OpenAI's shape."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from service.schemas.items import Body, InputItem

EncodingFormat = Literal["float", "base64", "sparse"]


class _EmbeddingsOptions(Body):
    model: str | None = Field(
        default=None, description="`name` or `name@version`; default: the first that is served."
    )
    encoding_format: EncodingFormat = Field(
        default="float",
        description="`base64` is the same numbers as little-endian float32; `sparse` lists the "
        "active concepts.",
    )
    dimensions: int | None = Field(
        default=None, description="Only the dictionary's number of concepts can be had."
    )
    stream: str | None = Field(
        default=None, description="Whose codes; default: the first stream that fits the item."
    )
    user: str | None = Field(default=None, description="Ignored.")


class EmbeddingsRequest(_EmbeddingsOptions):
    """Body of `POST /v1/embeddings`."""

    input: str | Annotated[list[str | InputItem], Field(min_length=1)]


class EmbeddingsEnvelope(_EmbeddingsOptions):
    """The same with unread inputs, so that a bad one can be named by its position."""

    input: Any


class SparseEmbedding(BaseModel):
    """Active concepts, strongest first, ties by index."""

    indices: list[int]
    values: list[float]


class Embedding(BaseModel):
    """One item's codes: a number for each concept, mostly 0; the same in base64; or sparse."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str | SparseEmbedding


class Usage(BaseModel):
    """Tokens that text streams read, after cutting; images and activations have none."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(BaseModel):
    """Answer of `POST /v1/embeddings`: an embedding for each input, in order."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage
