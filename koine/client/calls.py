"""What can be asked of a service, whichever transport carries it; sends nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypedDict

from koine.client.results import (
    ComparedItem,
    EncodedItem,
    ItemError,
    Timings,
    TranslatedItem,
)
from koine.types import Mode

Seconds = float | int
ResultItem = EncodedItem | ComparedItem | TranslatedItem


class EncodeOptions(TypedDict, total=False):
    """How to encode, as keyword arguments."""

    streams: Sequence[str] | None
    """Streams to answer with; default: all that fit the item."""
    mode: Mode
    """Each stream alone, or one shared support for all of an item."""
    top_k: int | None
    """Keep the strongest of the k."""
    names: bool
    """Add the concepts' labels."""
    dictionary: str | None
    """`name` or `name@version`; default: the first that is served."""
    timeout: Seconds | None
    """Seconds for the whole call (of `encode_stream`, for each request); default: the client's."""
    packed: bool
    """HTTP: smaller answers with values rounded to f16."""


class Prepared(NamedTuple):
    """One item in its wire format."""

    id: str
    content: Any
    size: int
    """Bytes on the wire."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encode:
    """Codes of items."""

    items: tuple[Prepared, ...] = ()
    streams: tuple[str, ...] | None = None
    mode: Mode = "independent"
    top_k: int | None = None
    names: bool = False
    dictionary: str | None = None
    packed: bool = False
    num_concepts: int = 0
    """Says how wide packed indices are."""
    result: type[EncodedItem] = field(default=EncodedItem, init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compare:
    """Where an item's streams agree."""

    items: tuple[Prepared, ...] = ()
    streams: tuple[str, ...] | None = None
    dictionary: str | None = None
    result: type[ComparedItem] = field(default=ComparedItem, init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Translate:
    """What the encoder of stream `to` would have computed."""

    to: str
    items: tuple[Prepared, ...] = ()
    dictionary: str | None = None
    result: type[TranslatedItem] = field(default=TranslatedItem, init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Concepts:
    """One page of a dictionary's concepts."""

    q: str | None = None
    status: str | None = None
    limit: int = 50
    cursor: str | None = None
    dictionary: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetConcept:
    """All that is known of one concept."""

    id: int
    dictionary: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateConcept:
    """A change of one concept's label."""

    id: int
    etag: str
    status: str
    label: str | None = None
    reason: str | None = None
    dictionary: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Localize:
    """Where in an image a concept lies."""

    image: bytes
    concept: int | None = None
    text: str | None = None
    stream: str | None = None
    dictionary: str | None = None


class GetInfo(NamedTuple):
    """A dictionary and the limits."""

    dictionary: str | None = None


class GetReady(NamedTuple):
    """Whether the service is ready."""


ItemsCall = Encode | Compare | Translate
CardCall = GetConcept | UpdateConcept
Call = ItemsCall | CardCall | Concepts | Localize | GetInfo | GetReady


class Part(NamedTuple):
    """The answer to a call with items: a result for each of them, in order."""

    results: tuple[Any, ...]
    timings: Timings = Timings()

    def joined(self, other: Part) -> Part:
        """Both answers as one."""
        return Part(self.results + other.results, self.timings.slowest(other.timings))


def failed(call: ItemsCall, id_: str, error: ItemError) -> ResultItem:
    """The result of an item that has none."""
    return call.result(id=id_, error=error)
