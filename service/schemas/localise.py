"""The JSON of `/v1/localize`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from service.schemas.concepts import ConceptInfo
from service.schemas.items import Body


class LocalizeOptions(Body):
    """What to look for, and where: either `concept` or `text`."""

    concept: int | None = Field(default=None, ge=0, description="A concept's id.")
    text: str | None = Field(
        default=None, min_length=1, description="A label, or what the text stream reads."
    )
    stream: str | None = Field(
        default=None, description="Image stream; default: the first that has a localiser."
    )
    dictionary: str | None = Field(
        default=None, description="`name` or `name@version`; default: the first that is served."
    )


class LocalizeRequest(LocalizeOptions):
    """Body of `POST /v1/localize` as JSON; with both or neither of `concept` and `text` refused."""

    image: str = Field(description="An image file's bytes in base64.")


class Match(BaseModel):
    """A concept and its value in the text's code."""

    concept: int
    label: str | None
    score: float


class Resolved(BaseModel):
    """How the concept was found."""

    by: Literal["id", "label", "text_stream"]
    score: float | None = Field(
        description="By label: the share of the text's words that the label has. By text stream: "
        "the concept's value in the text's code. By id: null."
    )
    stream: str | None = Field(description="That read the text; null for the other ways.")
    floor: float | None = Field(description="What nonsense reaches in that stream.")
    matches: list[Match] = Field(description="The strongest concepts of the text's code.")


class Grid(BaseModel):
    """Heat by patch."""

    side: int = Field(description="Patches along each side of the box.")
    heat: list[list[float]] = Field(description="Parts of the pre-code, rows from the top.")
    box: list[float] = Field(
        min_length=4,
        max_length=4,
        description="What the patches cover of the upright image: left, top, right, bottom in its "
        "pixels; it may reach beyond.",
    )


class LocalizeResponse(BaseModel):
    """Answer of `POST /v1/localize`."""

    dictionary: str
    concept: ConceptInfo
    resolved: Resolved
    stream: str
    width: int = Field(description="Of the upright image.")
    height: int
    grid: Grid
    overlay: str = Field(description="The image under its heat: a PNG file in base64.")
