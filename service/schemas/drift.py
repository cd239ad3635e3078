"""The JSON of `/v1/drift`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from koine.drift.verdict import State
from service.schemas.items import Body


class DriftQuery(Body):
    """What is asked of `/v1/drift`."""

    dictionary: str | None = Field(default=None, description="`name` or `name@version`.")
    window_s: int | None = Field(
        default=None, ge=1, le=31_536_000, description="Seconds to look back; else the setting."
    )


class ChangedConceptInfo(BaseModel):
    """A concept whose rate changed beyond chance."""

    label: str | None
    id: int
    ratio: float
    low: float
    high: float | None = Field(description="null where there is no upper end.")
    rate_then: float
    rate_now: float
    q: float = Field(description="Its p-value after Benjamini-Hochberg over all concepts.")
    kind: Literal["more", "less", "new", "vanished"]


class StatisticInfo(BaseModel):
    """A number of the whole window."""

    name: str
    then: float | None
    now: float | None
    p: float | None
    threshold: float | None
    drifted: bool


class StreamDrift(BaseModel):
    """The verdict on one stream."""

    state: State
    says: str = Field(description="The verdict in words.")
    items: int = Field(description="Different items.")
    blocks: int = Field(description="Clients, each in a stretch of time.")
    tested: int
    dispersion: float | None = Field(description="How many items say what one alone would.")
    concepts: list[ChangedConceptInfo]
    statistics: list[StatisticInfo]


class DriftResponse(BaseModel):
    """How the traffic's concepts differ from the dictionary's reference."""

    dictionary: str
    digest: str
    start: int = Field(alias="from", description="Seconds since 1970, of whole buckets.")
    end: int = Field(alias="to")
    schema_: str = Field(alias="schema")
    where: Literal["nowhere", "world", "stream", "unclear"]
    only: str | None = Field(description="The stream that changed alone.")
    streams: dict[str, StreamDrift]
    agreement: dict[str, StatisticInfo]
