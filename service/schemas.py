"""The JSON of requests and answers as data models; the OpenAPI document is made from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from koine.types import Modality, Mode

Encoding = Literal["json", "packed"]


class _Body(BaseModel):
    """What a client sends: no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class InputItem(_Body):
    """One thing to encode: an image, a text, both, or activations (which go before either)."""

    id: str | None = Field(
        default=None, max_length=256, description="Echoed; default: its position."
    )
    image: str | None = Field(default=None, description="An image file's bytes in base64.")
    text: str | None = None
    activations: dict[str, list[float]] | None = Field(
        default=None, description="What encoders already computed, by stream."
    )


class Options(_Body):
    """How to encode; the same for every item of a request."""

    streams: Annotated[list[str], Field(min_length=1)] | None = Field(
        default=None, description="Streams to answer with; default: all that fit the item."
    )
    mode: Mode = Field(
        default="independent",
        description="Each stream alone, or one shared support for all of an item.",
    )
    top_k: int | None = Field(default=None, ge=1, description="Keep the strongest of the k.")
    encoding: Encoding = "json"
    names: bool = Field(default=False, description="Add the concepts' labels, null where unnamed.")
    dictionary: str | None = Field(
        default=None, description="`name` or `name@version`; default: the first that is served."
    )


class EncodeRequest(Options):
    """Body of `POST /v1/encode` as JSON."""

    inputs: list[InputItem] = Field(min_length=1)


class EncodeEnvelope(Options):
    """The same with unread items: a bad item must not make the request unreadable."""

    inputs: list[Any] = Field(min_length=1)


class ItemCodes(BaseModel):
    """Codes of one item in one stream, strongest first, ties by index."""

    indices: list[int]
    values: list[float]
    fvu: float | None = Field(description="Fraction of variance unexplained.")
    names: list[str | None] | None = Field(default=None, description="Labels, where asked for.")


class PackedCodes(BaseModel):
    """The same as base64 of little-endian indices (u16; u32 above 65,536 concepts) then f16
    values, k of each; pads have the all-ones index."""

    packed: str
    fvu: float | None
    names: list[str | None] | None = None


class Problem(BaseModel):
    """RFC 9457: why a request was refused."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    """`urn:koine:request:` and the request's id."""


class ItemError(BaseModel):
    """Why one item has no codes."""

    type: str
    title: str
    detail: str


class EncodedItem(BaseModel):
    """An item that was encoded."""

    id: str
    codes: dict[str, ItemCodes | PackedCodes]


class FailedItem(BaseModel):
    """An item that was not."""

    id: str
    error: ItemError


class EncodeResponse(BaseModel):
    """Answer of `POST /v1/encode`: a result for each input, in order."""

    dictionary: str
    results: list[EncodedItem | FailedItem]


class StreamInfo(BaseModel):
    """One stream of the dictionary."""

    name: str
    modality: Modality
    d_in: int = Field(description="Width of its activations.")
    accepts: list[Literal["image", "text", "activations"]]
    encoder: str | None = Field(description="Name of the encoder that it comes from.")
    revision: str | None = Field(description="SHA-256 of that encoder's weights.")


class Limits(BaseModel):
    """What is refused beyond."""

    body_bytes: int
    items: int
    pixels: int
    text_chars: int
    queue_items: int
    inflight_bytes: int
    wait_seconds: float
    timeout_seconds: float


class InfoResponse(BaseModel):
    """Answer of `GET /v1/info`."""

    dictionary: str
    dictionaries: list[str] = Field(description="All that are served, the default first.")
    digest: str = Field(description="SHA-256 of the artifact's manifest.")
    num_concepts: int
    k: int
    joint: str = Field(description="How joint encoding selects.")
    streams: list[StreamInfo]
    limits: Limits
    max_batch: int
    provider: str
    versions: dict[str, str]


class Health(BaseModel):
    """Answer of `/livez` and `/readyz`."""

    status: Literal["alive", "ready"]
