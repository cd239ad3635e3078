"""The tree of spans of requests over the app in process, in OpenTelemetry's own memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from starlette.testclient import TestClient

from koine.artifact import Artifact
from service import telemetry
from service.core import Core
from service.telemetry import tracing
from service.telemetry.tracing import Tracing
from tests.service.conftest import serving
from tests.service.inputs import image_item

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
BODY = {"inputs": [image_item(1), {"text": "a dog"}]}
Spans = InMemorySpanExporter


@pytest.fixture(scope="module")
def ready(tiny_artifact: Artifact) -> Iterator[TestClient]:
    with serving(tiny_artifact) as client:
        yield client


@pytest.fixture
def spans() -> Iterator[Spans]:
    exporter = Spans()
    tracing.install(Tracing(SimpleSpanProcessor(exporter)))
    yield exporter
    tracing.install(tracing.OFF)


def server_span(spans: Spans) -> ReadableSpan:
    """The only one."""
    (span,) = [span for span in spans.get_finished_spans() if span.kind is SpanKind.SERVER]
    return span


def test_a_request_is_a_tree_below_its_client(ready: TestClient, spans: Spans) -> None:
    assert ready.post("/v1/encode", json=BODY, headers=SAMPLED).status_code == 200
    server = server_span(spans)
    assert server.name == "POST /v1/encode"
    assert server.context is not None
    assert f"{server.context.trace_id:032x}" == TRACE
    assert server.parent is not None
    assert f"{server.parent.span_id:016x}" == PARENT
    below = [
        span for span in spans.get_finished_spans()
        if span.parent is not None and span.parent.span_id == server.context.span_id
    ]  # fmt: skip
    named = sorted((span.name, (span.attributes or {}).get("koine.queue")) for span in below)
    queues = ["dictionary-heads", "tiny_a", "tiny_b", "tiny_text"]
    assert named == sorted(
        [("read", None), ("decode", None), ("answer", None)]
        + [(stage, queue) for stage in ("queue", "forward") for queue in queues],
        key=str,
    )
    for span in (server, *below):
        assert span.start_time is not None
        assert span.end_time is not None
        assert server.start_time <= span.start_time <= span.end_time <= server.end_time  # type: ignore


def test_a_forward_pass_and_its_requests_name_each_other(ready: TestClient, spans: Spans) -> None:
    ready.post("/v1/encode", json=BODY, headers=SAMPLED)
    server = server_span(spans)
    finished = spans.get_finished_spans()
    passes = [span for span in finished if span.name == "forward tiny_text"]
    stages = [
        span for span in finished
        if span.name == "forward" and (span.attributes or {})["koine.queue"] == "tiny_text"
    ]  # fmt: skip
    (one,), (stage,) = passes, stages
    assert one.parent is None
    assert dict(one.attributes or {}) == {
        "koine.queue": "tiny_text", "koine.batch.items": 1, "koine.batch.requests": 1,
    }  # fmt: skip
    assert [link.context for link in one.links] == [server.context]
    assert [link.context for link in stage.links] == [one.context]


def test_many_items_are_not_many_spans(ready: TestClient, spans: Spans) -> None:
    body = {"inputs": [image_item(n) for n in range(40)]}
    ready.post("/v1/encode", json=body, headers=SAMPLED)
    context = server_span(spans).context
    below = [
        span for span in spans.get_finished_spans()
        if span.parent is not None and context is not None
        and span.parent.span_id == context.span_id
    ]  # fmt: skip
    assert len(below) == 3 + 2 * 3
    (decode,) = [span for span in below if span.name == "decode"]
    assert dict(decode.attributes or {}) == {"koine.times": 40}


def test_the_conventions_names_are_used(ready: TestClient, spans: Spans) -> None:
    ready.post("/v1/encode?q=secret", json=BODY, headers={"x-request-id": "abc"})
    about = dict(server_span(spans).attributes or {})
    assert about == {
        "http.request.method": "POST",
        "http.route": "/v1/encode",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": "/v1/encode",
        "network.protocol.version": "1.1",
        "server.address": "testserver",
        "server.port": 80,
        "user_agent.original": "testclient",
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": "koine",
        "gen_ai.request.model": "tiny@0.1",
        "gen_ai.response.model": "tiny@0.1",
        "koine.items": 2,
        "koine.outcome": "ok",
        "koine.request.id": "abc",
    }


@pytest.mark.parametrize(
    ("method", "path", "name", "status"),
    [
        ("POST", "/v1/encode", "POST /v1/encode", 400),
        ("GET", "/v1/encode", "GET /v1/encode", 405),
        ("GET", "/v1/../../etc/passwd", "GET", 404),
        ("BREW", "/v1/info", "HTTP /v1/info", 405),
    ],
)
def test_a_clients_mistake_is_no_error_of_the_span(
    ready: TestClient, spans: Spans, method: str, path: str, name: str, status: int
) -> None:
    ready.request(method, path, content=b"{")
    span = server_span(spans)
    assert span.name == name
    assert span.status.status_code is StatusCode.UNSET
    about = span.attributes or {}
    assert about["http.response.status_code"] == status
    assert "error.type" not in about
    assert "gen_ai.operation.name" not in about


def test_an_unforeseen_error_is_named(
    ready: TestClient, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Core, "encode", fail)
    answer = ready.post("/v1/encode", json=BODY)
    assert answer.status_code == 500
    span = server_span(spans)
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "ZeroDivisionError"


def test_what_the_client_does_not_sample_is_not_recorded(ready: TestClient, spans: Spans) -> None:
    unsampled = {"traceparent": SAMPLED["traceparent"][:-2] + "00"}
    assert ready.post("/v1/encode", json=BODY, headers=unsampled).status_code == 200
    assert spans.get_finished_spans() == ()


def test_probes_are_not_traced(ready: TestClient, spans: Spans) -> None:
    for path in ("/livez", "/readyz", "/metrics"):
        ready.get(path, headers=SAMPLED)
    assert spans.get_finished_spans() == ()


def test_a_call_over_grpc_is_a_server_span(spans: Spans) -> None:
    metadata = [("x-request-id", "abc"), ("traceparent", SAMPLED["traceparent"])]
    request = telemetry.begin("grpc", "koine.v1.ConceptService/Encode", metadata)
    telemetry.note(items=1, dictionary="tiny@0.1", key="ops")
    telemetry.finish(request, status="UNAVAILABLE", outcome="error")
    span = server_span(spans)
    assert span.name == "koine.v1.ConceptService/Encode"
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" == TRACE
    assert span.status.status_code is StatusCode.ERROR
    about = dict(span.attributes or {})
    assert about["rpc.system.name"] == "grpc"
    assert about["rpc.method"] == "koine.v1.ConceptService/Encode"
    assert about["rpc.response.status_code"] == about["error.type"] == "UNAVAILABLE"
    assert about["koine.key"] == "ops"
    assert not any(name.startswith("http.") for name in about)


HEX = st.text("0123456789abcdefABCDEF", max_size=34)
ALMOST = st.tuples(HEX, HEX, HEX, HEX).map("-".join)


@given(parent=ALMOST | st.text(), state=st.text(), twice=st.booleans())
def test_any_traceparent_begins_a_trace(parent: str, state: str, twice: bool) -> None:
    exporter = Spans()
    tracing.install(Tracing(SimpleSpanProcessor(exporter)))
    try:
        metadata = [("traceparent", parent)] * (1 + twice) + [("tracestate", state)]
        request = telemetry.begin("grpc", "x/Y", metadata)
        assert request.trace_id is not None
        assert len(request.trace_id) == 32
        assert request.span_id is not None
        telemetry.finish(request, status="OK", outcome="ok")
    finally:
        tracing.install(tracing.OFF)


class Broken(SpanProcessor):
    """Fails at whatever it is told."""

    def on_start(self, *_: Any, **__: Any) -> None:
        raise RuntimeError("broken at the start")

    def on_end(self, *_: Any, **__: Any) -> None:
        raise RuntimeError("broken at the end")


@pytest.mark.parametrize("start", [True, False])
def test_a_broken_processor_fails_no_request(
    ready: TestClient, start: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not start:
        monkeypatch.setattr(Broken, "on_start", lambda *_, **__: None)
    tracing.install(Tracing(Broken()))
    try:
        for _ in range(2):
            answer = ready.post("/v1/encode", json=BODY, headers=SAMPLED)
            assert answer.status_code == 200
            assert all("codes" in result for result in answer.json()["results"])
    finally:
        tracing.install(tracing.OFF)


@pytest.mark.parametrize(
    ("environment", "on", "words"),
    [
        ({}, False, ""),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, False, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, True, "traces go to"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://u:secret@127.0.0.1:9/x?k=secret"}, True,
         "traces go to"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"},
         False, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"},
         False, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
          "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, False, "http/protobuf"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
          "OTEL_BSP_MAX_QUEUE_SIZE": "0"}, False, "cannot be used"),
    ],
)  # fmt: skip
def test_traces_are_off_unless_an_endpoint_is_named(
    environment: dict[str, str], on: bool, words: str,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    caplog.set_level("INFO")
    made = tracing.setup()
    try:
        assert made.on is on
        assert words in caplog.text
        assert "secret" not in caplog.text
        assert bool(caplog.text) == bool(words)
    finally:
        tracing.install(tracing.OFF)
        asyncio.run(made.shutdown())
        assert not made.on
