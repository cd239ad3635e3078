"""The JSON of concepts and of what is told in them: `/v1/concepts`, `/v1/compare`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from service.schemas.items import Body, FailedItem, InputItem


class ConceptInfo(BaseModel):
    """One concept."""

    id: int
    label: str | None
    status: str
    score: float | None = Field(description="How well the label fits, by its source's measure.")
    rate: dict[str, float] = Field(
        description="Share of the reference items in which it is active, by stream."
    )


class ValuedConcept(ConceptInfo):
    """A concept as it is active in an item."""

    value: float


class ConceptsResponse(BaseModel):
    """Answer of `GET /v1/concepts`: a page of concepts, by id."""

    dictionary: str
    concepts: list[ConceptInfo]
    next: str | None = Field(description="The `cursor` of the next page, null on the last.")


class DictionaryQuery(Body):
    """What `GET /v1/concepts/{id}` can be asked."""

    dictionary: str | None = Field(
        default=None, description="`name` or `name@version`; default: the first that is served."
    )


class ConceptsQuery(DictionaryQuery):
    """What `GET /v1/concepts` can be asked."""

    q: str | None = Field(default=None, description="What the label contains, in any case.")
    status: str | None = None
    limit: int = Field(default=50, ge=1, le=1000)
    cursor: str | None = Field(default=None, description="`next` of the page before.")


class _CompareOptions(Body):
    streams: Annotated[list[str], Field(min_length=2)] | None = Field(
        default=None, description="Streams to compare; default: all that fit the item."
    )
    dictionary: str | None = Field(
        default=None, description="`name` or `name@version`; default: the first that is served."
    )


class CompareRequest(_CompareOptions):
    """Body of `POST /v1/compare`."""

    inputs: list[InputItem] = Field(min_length=1)


class CompareEnvelope(_CompareOptions):
    """The same with unread items."""

    inputs: list[Any] = Field(min_length=1)


class ComparedPair(BaseModel):
    """Where two streams of one item agree; concepts come with the largest value first."""

    jaccard: float | None = Field(description="Null where neither stream activates a concept.")
    shared: list[ValuedConcept] = Field(description="`value` is the mean of both streams'.")
    only_a: list[ValuedConcept]
    only_b: list[ValuedConcept]


class ComparedItem(BaseModel):
    """An item whose streams were compared."""

    id: str
    pairs: dict[str, ComparedPair] = Field(description='By "a|b".')


class CompareResponse(BaseModel):
    """Answer of `POST /v1/compare`: a result for each input, in order."""

    dictionary: str
    results: list[ComparedItem | FailedItem]
