"""The JSON of `/v1/drift` and of its table."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from koine.drift.alarm import Alarm
from koine.drift.segments import ALL
from koine.drift.verdict import State
from service.schemas.items import Body


class _Window(Body):
    dictionary: str | None = Field(default=None, description="`name` or `name@version`.")
    segment: str = Field(
        default=ALL, max_length=200, description="`key:ID` or `label:NAME`; all traffic without."
    )
    window_s: int | None = Field(
        default=None, ge=1, le=31_536_000, description="Seconds to look back; else the setting."
    )


class DriftQuery(_Window):
    """What is asked of `/v1/drift`."""

    history: int = Field(default=24, ge=0, le=1000, description="Judged windows to tell of.")


class DriftConceptsQuery(_Window):
    """What is asked of `/v1/drift/concepts`."""

    stream: str | None = Field(default=None, description="All without.")
    limit: int = Field(default=100, ge=1, le=100_000, description="Rows of each stream.")


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
    href: str = Field(description="Where its exemplars are told of.")


class JudgedConceptInfo(ChangedConceptInfo):
    """The same in a judged window."""

    since: int = Field(description="Beginning of the first of the windows in which it changed so.")


class StatisticInfo(BaseModel):
    """A number of the whole window."""

    name: str
    then: float | None
    now: float | None
    p: float | None
    threshold: float | None
    drifted: bool


class JudgedAgreement(StatisticInfo):
    """How far two streams of the same items agree, in a judged window."""

    state: State
    alarm: Alarm


class ChangedPairInfo(BaseModel):
    """Two frequent concepts that meet more or less often than their own changes explain."""

    label_a: str | None
    label_b: str | None
    a: int
    b: int
    ratio: float
    low: float
    high: float | None
    rate_then: float
    rate_now: float
    q: float


class _Stream(BaseModel):
    state: State
    says: str = Field(description="The verdict in words.")
    items: int = Field(description="Different items.")
    blocks: int = Field(description="Clients, each in a stretch of time.")
    tested: int
    dispersion: float | None = Field(description="How many items say what one alone would.")
    pairs: list[ChangedPairInfo]
    statistics: list[StatisticInfo]


class StreamDrift(_Stream):
    """The verdict on one stream."""

    concepts: list[ChangedConceptInfo]


class JudgedStream(_Stream):
    """The verdict on one stream in a judged window."""

    alarm: Alarm = Field(description="Whether drift persists over the last windows.")
    changed: dict[Literal["more", "less", "new", "vanished"], int]
    concepts: list[JudgedConceptInfo] = Field(description="The 100 most changed.")


class ReferenceInfo(BaseModel):
    """What the window is compared with."""

    source: Literal["artifact", "live", "learning"]
    items: int


class _Verdict(BaseModel):
    dictionary: str
    digest: str
    segment: str
    start: int = Field(alias="from", description="Seconds since 1970, of whole buckets.")
    end: int = Field(alias="to")
    reference: ReferenceInfo
    schema_: str = Field(alias="schema")
    where: Literal["nowhere", "world", "stream", "unclear"]
    only: str | None = Field(description="The stream that changed alone.")


class JudgedWindow(_Verdict):
    """The verdict on a window that has ended."""

    report: str = Field(description="SHA-256 of the verdict, as the audit log names it.")
    streams: dict[str, JudgedStream]
    agreement: dict[str, JudgedAgreement]


class DriftResponse(_Verdict):
    """How the last window's concepts differ from the reference, and those of windows before."""

    streams: dict[str, StreamDrift]
    agreement: dict[str, StatisticInfo]
    history: list[JudgedWindow] = Field(description="The newest first.")


class TestedConcept(BaseModel):
    """A concept that was tested."""

    id: int
    label: str | None
    changed: bool
    ratio: float
    low: float
    high: float | None
    rate_then: float
    rate_now: float
    p: float
    q: float
    dispersion: float


class TestedStream(BaseModel):
    """All of a stream."""

    state: State
    tested: int
    concepts: list[TestedConcept] = Field(description="The surest change first.")


class DriftConceptsResponse(BaseModel):
    """Every concept that was tested."""

    dictionary: str
    segment: str
    start: int = Field(alias="from")
    end: int = Field(alias="to")
    streams: dict[str, TestedStream]
