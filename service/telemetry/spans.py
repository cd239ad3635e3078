"""The spans of one request that is recorded, made after the fact; exports nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

_MOST_LINKS = 128
"""OpenTelemetry's own default for a span."""


@dataclass(slots=True)
class _Stage:
    """One stage of a request in one queue, over all its items: a request of 256 images has as
    many spans as one of a single image."""

    start_s: float
    end_s: float
    times: int = 1
    links: list[Link] = field(default_factory=list["Link"])


class Trace:
    """A request's server span and the stages below it. Times are `time.perf_counter`'s."""

    __slots__ = ("_epoch_ns", "_passes", "_span", "_stages", "_tracer")

    def __init__(self, span: Span, tracer: Tracer, passes: Tracer) -> None:
        """`passes` records every span: forward passes are kept where one of their requests is."""
        self._span, self._tracer, self._passes = span, tracer, passes
        self._epoch_ns = time.time_ns() - time.perf_counter_ns()
        self._stages: dict[tuple[str, str | None], _Stage] = {}

    @property
    def context(self) -> SpanContext:
        """The server span's."""
        return self._span.get_span_context()

    def stage(
        self,
        name: str,
        start_s: float,
        end_s: float,
        queue: str | None = None,
        link: SpanContext | None = None,
    ) -> None:
        """Notes a finished stage; `link` is a span that did its work."""
        stage = self._stages.get((name, queue))
        if stage is None:
            stage = self._stages[name, queue] = _Stage(start_s, end_s)
        else:
            stage.start_s = min(stage.start_s, start_s)
            stage.end_s = max(stage.end_s, end_s)
            stage.times += 1
        if link is not None and len(stage.links) < _MOST_LINKS:
            stage.links.append(Link(link))

    def forward_pass(
        self, queue: str, items: int, sharing: Sequence[Trace], start_s: float, end_s: float
    ) -> SpanContext:
        """A span of its own for a pass that these traces share, linked to each."""
        span = self._passes.start_span(
            f"forward {queue}",
            context=Context(),  # a root: it belongs to no single request
            kind=SpanKind.INTERNAL,
            attributes={
                "koine.queue": queue,
                "koine.batch.items": items,
                "koine.batch.requests": len(sharing),
            },
            links=[Link(trace.context) for trace in sharing[:_MOST_LINKS]],
            start_time=self._ns(start_s),
        )
        span.end(self._ns(end_s))
        return span.get_span_context()

    def end(
        self, name: str, attributes: Mapping[str, AttributeValue], *, failed: bool = False
    ) -> None:
        """Makes the stages' spans and ends the server span, with the name it has by now."""
        parent = set_span_in_context(self._span, Context())
        for (stage_name, queue), stage in self._stages.items():
            about: dict[str, AttributeValue] = {"koine.times": stage.times}
            if queue is not None:
                about["koine.queue"] = queue
            self._tracer.start_span(
                stage_name,
                context=parent,
                attributes=about,
                links=stage.links,
                start_time=self._ns(stage.start_s),
            ).end(self._ns(stage.end_s))
        self._span.update_name(name)
        self._span.set_attributes(attributes)
        if failed:
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end(self._ns(time.perf_counter()))

    def _ns(self, seconds: float) -> int:
        return self._epoch_ns + int(seconds * 1e9)
