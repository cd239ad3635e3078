"""The JSON of one item, as a client sends it and as it comes back when it failed."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from service.schemas.problem import ItemError

NUMBERS, BASE64 = "numbers", "base64"
"""The two forms of activations."""


class Body(BaseModel):
    """What a client sends: no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _form(value: object) -> str:
    return BASE64 if isinstance(value, str) else NUMBERS


Activations = Annotated[
    Annotated[list[float], Tag(NUMBERS)] | Annotated[str, Tag(BASE64)], Discriminator(_form)
]


class InputItem(Body):
    """One thing to encode: an image, a text, both, or activations (which go before either)."""

    id: str | None = Field(
        default=None, max_length=256, description="Echoed; default: its position."
    )
    image: str | None = Field(default=None, description="An image file's bytes in base64.")
    text: str | None = None
    activations: dict[str, Activations] | None = Field(
        default=None,
        description="What encoders already computed, by stream: numbers, or base64 of "
        "little-endian float32, which is much cheaper to read.",
    )


class FailedItem(BaseModel):
    """An item that was not answered."""

    id: str
    error: ItemError
