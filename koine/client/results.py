"""What a service answered, typed; reads no wire format."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int32

from koine.client.errors import error_of, type_of
from koine.codes import PAD, Codes
from koine.errors import ClientError, KoineError, UnknownStreamError


class StreamCodes(NamedTuple):
    """One item's codes in one stream, strongest first, ties by index; no pads."""

    indices_K: Int32[np.ndarray, "K"]
    values_K: Float32[np.ndarray, "K"]
    fvu: float
    """Fraction of variance unexplained; NaN where it is not a number."""
    names: tuple[str | None, ...] | None = None
    """The concepts' labels, None where unnamed; only where asked for."""


@dataclass(frozen=True, slots=True)
class ItemError:
    """Why one item has no result."""

    type: str
    """A URN such as `urn:koine:error:image`."""
    title: str
    detail: str

    @staticmethod
    def of(error: KoineError) -> ItemError:
        """The error of an item that was not sent."""
        return ItemError(type_of(error), error.title, str(error))

    def exception(self) -> KoineError:
        """The same as one of `koine.errors`."""
        return error_of(self.type, self.detail)


class Timings(NamedTuple):
    """Seconds that the service spent in each stage; of several requests, the slowest in each."""

    read: float = 0.0
    decode: float = 0.0
    queue: float = 0.0
    forward: float = 0.0
    total: float = 0.0

    def slowest(self, other: Timings) -> Timings:
        """The larger of each."""
        return Timings(*map(max, self, other))


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedItem:
    """One item's codes by stream, or its error."""

    id: str
    codes: Mapping[str, StreamCodes] = field(default_factory=dict[str, StreamCodes])
    error: ItemError | None = None
    dictionary: str | None = None
    """`name@version` that the codes are of; None for an item that has none."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """An answer for each input, in order."""

    dictionary: str | None
    """`name@version`; None where nothing was sent."""
    items: tuple[EncodedItem, ...]
    timings: Timings = Timings()

    @property
    def failed(self) -> dict[int, ItemError]:
        """The errors by position."""
        return {n: item.error for n, item in enumerate(self.items) if item.error is not None}

    def raise_for_errors(self) -> Encoded:
        """Itself, or the first item's error as an exception."""
        for n, error in self.failed.items():
            raised = error.exception()
            raised.add_note(f"item {n} ({self.items[n].id!r}), {len(self.failed)} items failed")
            raise raised
        return self

    def stream(self, name: str) -> Codes:
        """One stream of every item, N x K with K of the longest; rows without it are all pads.

        Raises `UnknownStreamError` where items have codes, but none in this stream.
        """
        rows = self._rows(name)
        k = max((len(row.indices_K) for row in rows if row is not None), default=0)
        codes = Codes(
            np.full((len(rows), k), PAD, np.int32),
            np.zeros((len(rows), k), np.float32),
            np.full(len(rows), math.nan, np.float32),
        )
        for n, row in enumerate(rows):
            if row is not None:
                codes.indices_NK[n, : len(row.indices_K)] = row.indices_K
                codes.values_NK[n, : len(row.values_K)] = row.values_K
                codes.fvu_N[n] = row.fvu
        return codes

    def to_scipy(self, stream: str, num_concepts: int) -> Any:
        """One stream as a float32 `scipy.sparse.csr_array` [N, C]; failed items' rows are empty.

        `num_concepts` is what `info()` says. Raises `ClientError` without scipy or where an index
        lies beyond, `UnknownStreamError` as `stream` does.
        """
        try:
            from scipy.sparse import csr_array  # pyright: ignore[reportMissingTypeStubs]
        except ImportError as error:
            raise ClientError(
                "`to_scipy` needs scipy; install it with `pip install scipy`"
            ) from error
        codes = self.stream(stream)
        active_NK = codes.indices_NK != PAD
        columns_M = codes.indices_NK[active_NK]
        if len(columns_M) and int(columns_M.max()) >= num_concepts:
            raise ClientError(
                f"concept {columns_M.max()} does not fit into {num_concepts} columns; give the "
                "`num_concepts` of `info()`"
            )
        starts = np.concatenate([[0], np.cumsum(active_NK.sum(1))]).astype(np.int32)
        shape = (len(self.items), num_concepts)
        matrix = csr_array((codes.values_NK[active_NK], columns_M, starts), shape=shape)
        matrix.sort_indices()
        return matrix

    def _rows(self, name: str) -> list[StreamCodes | None]:
        rows = [item.codes.get(name) for item in self.items]
        known = sorted({stream for item in self.items for stream in item.codes})
        if known and name not in known:
            raise UnknownStreamError(f"no item has codes in {name!r}; they have {', '.join(known)}")
        return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Concept:
    """One concept of the dictionary."""

    id: int
    label: str | None = None
    status: str = "unnamed"
    score: float | None = None
    rate: Mapping[str, float] = field(default_factory=dict[str, float])
    """Share of the reference items in which it is active, by stream."""
    value: float | None = None
    """Its value in the item that was compared."""


class Pair(NamedTuple):
    """Where two streams of an item agree."""

    jaccard: float | None
    """None where both activate nothing."""
    shared: tuple[Concept, ...]
    only_a: tuple[Concept, ...]
    only_b: tuple[Concept, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedItem:
    """One item's pairs of streams by `"a|b"`, or its error."""

    id: str
    pairs: Mapping[str, Pair] = field(default_factory=dict[str, Pair])
    error: ItemError | None = None
    dictionary: str | None = None


class Translation(NamedTuple):
    """What another stream's encoder would have computed."""

    activations_D: Float32[np.ndarray, "D"]
    expected_fvu: float | None
    """What this pair of streams left unexplained in training; None where not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslatedItem:
    """One item's translations by the stream that they are from, or its error."""

    id: str
    sources: Mapping[str, Translation] = field(default_factory=dict[str, Translation])
    error: ItemError | None = None
    dictionary: str | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """A comparison for each input, in order."""

    dictionary: str | None
    items: tuple[ComparedItem, ...]
    timings: Timings = Timings()


@dataclass(frozen=True, slots=True)
class Translated:
    """A translation for each input, in order."""

    dictionary: str | None
    items: tuple[TranslatedItem, ...]
    timings: Timings = Timings()


@dataclass(frozen=True, slots=True, kw_only=True)
class Localized:
    """Where in an image a concept lies."""

    dictionary: str
    concept: Concept
    by: str
    """How it was found: `id`, `label` or `text_stream`."""
    score: float | None
    """By text stream, its value in the text's code; by label, the share of the text's words."""
    matches: tuple[Concept, ...]
    """The strongest concepts of a text's code, with `value`; only by text stream."""
    stream: str
    heat_GG: Float32[np.ndarray, "G G"]
    """Parts of the pre-code by patch, rows from the top."""
    box: tuple[float, float, float, float]
    """What the patches cover: left, top, right, bottom in pixels of the upright image."""
    size: tuple[int, int]
    """Width and height of the upright image."""
    overlay: bytes
    """The image under its heat, a PNG file."""


class ConceptPage(NamedTuple):
    """Some of a dictionary's concepts."""

    concepts: tuple[Concept, ...]
    next: str | None
    """Cursor of the next page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelChange:
    """One change of a concept's label."""

    revision: int
    before: tuple[str | None, str]
    """Label and status."""
    after: tuple[str | None, str]
    person: str
    time: str
    """ISO 8601, UTC."""
    reason: str | None = None
    source: str | None = None
    """Where a label was carried over from."""
    confidence: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptCard:
    """All that is known of one concept."""

    concept: Concept
    dictionary: str
    etag: str
    """Says which state this is; `update_concept` wants it."""
    revision: int
    proposed: str | None
    """The label that a withdrawal goes back to."""
    source: str | None
    purity: Mapping[str, float]
    evidence: tuple[Mapping[str, Any], ...]
    nearest: tuple[Concept, ...]
    exemplars: tuple[Mapping[str, Any], ...]
    history: tuple[LabelChange, ...]


class StreamInfo(NamedTuple):
    """One stream of a dictionary."""

    name: str
    modality: str
    d_in: int
    accepts: tuple[str, ...]
    encoder: str | None
    revision: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """A dictionary and the limits of the service."""

    dictionary: str
    dictionaries: tuple[str, ...]
    digest: str
    num_concepts: int
    k: int
    joint: str
    streams: tuple[StreamInfo, ...]
    limits: Mapping[str, int | float]
    provider: str
    versions: Mapping[str, str]
