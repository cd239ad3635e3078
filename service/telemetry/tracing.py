"""OpenTelemetry over OTLP/HTTP: set up from the standard `OTEL_*` variables, off without them.

An exporter that is down, slow or hanging costs spans, never a request: they wait in a bounded
queue of the SDK's own thread. Knows no transport and no stage.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import koine
from service.telemetry.context import Headers
from service.telemetry.spans import Trace

SCOPE = "koine.service"
FLUSH_S = 2.0
"""How long a stopping service waits for its last spans to be taken."""
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SPEAKS = "http/protobuf"
_PROPAGATOR = TraceContextTextMapPropagator()

log = logging.getLogger(__name__)


class Tracing:
    """Starts server spans; without a processor it does nothing. `shutdown` it."""

    def __init__(self, processor: SpanProcessor | None = None) -> None:
        self._processor = processor
        self._tracer = self._passes = None
        if processor is not None:
            # the environment's names and attributes go before these
            resource = Resource.create(
                {"service.name": "koine", "service.version": koine.__version__}
                | {"service.instance.id": f"{os.uname().nodename}-{os.getpid()}"}
            ).merge(OTELResourceDetector().detect())
            # not at exit: `shutdown` is bounded, theirs waits half a minute
            provider = TracerProvider(resource=resource, shutdown_on_exit=False)
            every = TracerProvider(ALWAYS_ON, resource=resource, shutdown_on_exit=False)
            for each in (provider, every):
                each.add_span_processor(processor)
            self._tracer, self._passes = provider.get_tracer(SCOPE), every.get_tracer(SCOPE)

    @property
    def on(self) -> bool:
        """Whether spans go anywhere."""
        return self._processor is not None

    def start(self, name: str, headers: Headers, start_s: float) -> tuple[Span, Trace | None]:
        """A server span below the client's, and its trace where the sampler wants it recorded.

        Only while it is `on`.
        """
        assert self._tracer is not None
        assert self._passes is not None
        # never the current context: BentoML keeps a span of its own there
        parent = Context()
        if headers.traceparent is not None:
            carrier = {"traceparent": headers.traceparent, "tracestate": headers.tracestate}
            parent = _PROPAGATOR.extract(carrier, context=parent)
        epoch_ns = time.time_ns() - time.perf_counter_ns()
        span = self._tracer.start_span(
            name, context=parent, kind=SpanKind.SERVER, start_time=epoch_ns + int(start_s * 1e9)
        )
        return span, Trace(span, self._tracer, self._passes) if span.is_recording() else None

    async def shutdown(self, within_s: float = FLUSH_S) -> None:
        """Sends what is left, for this long at most; what a hanging exporter keeps is lost."""
        processor, self._processor = self._processor, None
        if processor is None:
            return
        # a thread that nobody joins: the SDK's own shutdown may take half a minute
        ending = threading.Thread(target=processor.shutdown, name="telemetry-end", daemon=True)
        ending.start()
        deadline = time.monotonic() + within_s
        while ending.is_alive() and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        if ending.is_alive():
            log.warning("the last spans were not taken within %.3g s and are lost", within_s)


OFF = Tracing()
_active = OFF


def active() -> Tracing:
    """This process's tracing."""
    return _active


def setup(environment: Mapping[str, str] = os.environ) -> Tracing:
    """Makes this process's tracing, which is off unless an OTLP endpoint is named."""
    return install(Tracing(_processor(environment)))


def install(tracing: Tracing) -> Tracing:
    """Makes it this process's."""
    global _active
    _active = tracing
    return tracing


def _processor(environment: Mapping[str, str]) -> SpanProcessor | None:
    endpoint = next(filter(None, (environment.get(name) for name in _ENDPOINTS)), None)
    disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    exporter = environment.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower()
    if endpoint is None or disabled or exporter == "none":
        return None
    protocol = next(filter(None, (environment.get(name) for name in _PROTOCOLS)), _SPEAKS)
    if protocol != _SPEAKS or exporter != "otlp":
        log.warning(
            "no traces are sent: this service speaks otlp over %s, got exporter %r over %r; change "
            "OTEL_TRACES_EXPORTER or OTEL_EXPORTER_OTLP_PROTOCOL (the port is often 4318 then)",
            _SPEAKS, exporter, protocol,
        )  # fmt: skip
        return None
    try:
        processor = BatchSpanProcessor(OTLPSpanExporter())
    except Exception:  # the edge to a library: whatever it dislikes, requests must be served
        log.exception("no traces are sent: the OTEL_* variables cannot be used")
        return None
    log.info("traces go to %s", endpoint.split("@")[-1].split("?")[0])  # neither may hold secrets
    return processor
