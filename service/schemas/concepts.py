"""The JSON of concepts and of what is told in them: `/v1/concepts`, `/v1/compare`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from koine.concepts import Evidence, Status
from koine.labels import State
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


class NearConcept(BaseModel):
    """A concept whose direction is alike."""

    id: int
    label: str | None
    status: str


class ExemplarInfo(BaseModel):
    """A reference item in which a concept is strongly active."""

    item: str
    stream: str
    value: float
    caption: str | None
    thumbnail: str | None = Field(description="Path of its JPEG; null where there is none.")


class LabelChange(BaseModel):
    """One change of a concept's label."""

    revision: int
    before: State
    after: State
    person: str
    time: str
    reason: str | None
    source: str | None = Field(description="Where a label was carried over from.")
    confidence: float | None = Field(description="How sure that source was.")


class ConceptCard(ConceptInfo):
    """Answer of `GET` and `PATCH /v1/concepts/{id}`: all that is known of one concept."""

    dictionary: str
    source: str | None = Field(description="What gave the label; `person` where a person did.")
    purity: dict[str, float] = Field(
        description="Share of the items that activate it that have the label, by stream."
    )
    proposed: str | None = Field(description="The label that `proposed` goes back to.")
    evidence: list[Evidence] = Field(description="Terms that each route proposed.")
    nearest: list[NearConcept]
    exemplars: list[ExemplarInfo]
    revision: int = Field(description="Of its last change; 0 where nobody changed it.")
    etag: str = Field(description="What `If-Match` takes.")
    history: list[LabelChange] = Field(description="Oldest first.")


class ConceptChange(Body):
    """Body of `PATCH /v1/concepts/{id}`."""

    status: Status = Field(
        description="`verified`, `rejected`, `renamed`, or `proposed` (`unnamed` where nothing is "
        "proposed) to withdraw what was said."
    )
    label: str | None = Field(default=None, description="The new one, for `renamed`.")
    reason: str | None = None


class ConceptsResponse(BaseModel):
    """Answer of `GET /v1/concepts`: a page of concepts."""

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
    evidence: bool = Field(
        default=False, description="Search the proposed terms, too; those found by label first."
    )
    status: str | None = None
    stream: str | None = Field(default=None, description="In which it is ever active.")
    min_rate: float | None = Field(
        default=None, ge=0, le=1, description="Of `stream`, or of any stream."
    )
    min_score: float | None = Field(default=None, ge=0, le=1)
    sort: Literal["id", "rate", "score"] = Field(
        default="id", description="By id, or the largest rate or score first."
    )
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
