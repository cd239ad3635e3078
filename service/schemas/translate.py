"""The JSON of `/v1/translate`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from service.schemas.items import Body, FailedItem, InputItem


class _TranslateOptions(Body):
    to: str = Field(description="The stream whose activations are wanted.")
    dictionary: str | None = Field(
        default=None, description="`name` or `name@version`; default: the first that is served."
    )


class TranslateRequest(_TranslateOptions):
    """Body of `POST /v1/translate`."""

    inputs: list[InputItem] = Field(min_length=1)


class TranslateEnvelope(_TranslateOptions):
    """The same with unread items."""

    inputs: list[Any] = Field(min_length=1)


class Translation(BaseModel):
    """What one stream's codes say of another stream's activations."""

    activations: list[float] = Field(description="Of the scale of unit-norm activations.")
    expected_fvu: float | None = Field(
        description="Fraction of variance that this left unexplained on held-out items; null "
        "where it was not measured."
    )


class TranslatedItem(BaseModel):
    """An item that was translated."""

    id: str
    from_: dict[str, Translation] = Field(
        alias="from", description="By the stream that the codes are from."
    )


class TranslateResponse(BaseModel):
    """Answer of `POST /v1/translate`: a result for each input, in order."""

    dictionary: str
    results: list[TranslatedItem | FailedItem]
