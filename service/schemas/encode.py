"""The JSON of `/v1/encode`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from koine.types import Mode
from service.schemas.items import Body, FailedItem, InputItem

Encoding = Literal["json", "packed"]


class Options(Body):
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


class EncodedItem(BaseModel):
    """An item that was encoded."""

    id: str
    codes: dict[str, ItemCodes | PackedCodes]


class EncodeResponse(BaseModel):
    """Answer of `POST /v1/encode`: a result for each input, in order."""

    dictionary: str
    results: list[EncodedItem | FailedItem]
