"""The JSON of `/v1/localize`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from service.schemas.concepts import ConceptInfo
from service.schemas.items import Body


class LocalizeRequest(Body):
    """Body of `POST /v1/localize`: an image, and a concept or a text."""

    image: str = Field(description="An image file's bytes in base64.")
    concept: int | None = Field(default=None, ge=0, description="A concept's id.")
    text: str | None = Field(
        default=None, description="What to look for: a label, else what the text's codes say."
    )
    stream: str | None = Field(
        default=None, description="An image stream; default: the first that can be localised in."
    )
    dictionary: str | None = Field(
        default=None, description="`name` or `name@version`; default: the first that is served."
    )


class Found(BaseModel):
    """How the concept was found."""

    by: Literal["id", "label", "codes"] = Field(
        description="`codes`: no label fits the text, and its own codes are strongest there."
    )
    value: float | None = Field(description="Of the text's code; null for `id` and `label`.")


class Seen(BaseModel):
    """What the encoder saw, in pixels of the overlay, ends excluded; the rest it cut off."""

    left: int
    top: int
    right: int
    bottom: int


class LocalizeResponse(BaseModel):
    """Answer of `POST /v1/localize`, where `image/png` alone is not what is accepted."""

    dictionary: str
    concept: ConceptInfo
    found: Found
    stream: str
    width: int = Field(description="Of the overlay, in pixels; its longer side is 1024 at most.")
    height: int
    seen: Seen
    grid: list[list[float]] = Field(
        description="Each patch's part of the concept's pre-code, rows from the top of `seen`."
    )
    overlay: str = Field(description="A PNG in base64: least heat dark blue, most yellow.")
