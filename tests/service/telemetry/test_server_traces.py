"""Traces of a real server at a real collector, and at collectors that refuse or hang."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from koine.artifact import Artifact
from service.telemetry.tracing import FLUSH_S
from tests.service.process import bentoml_serve, free_port
from tests.service.telemetry.collector import attributes, collecting

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}
TEXT = {"inputs": [{"text": "a dog"}]}


def settings_of(artifact: Artifact, endpoint: str, **settings: str) -> dict[str, str]:
    """With traces to this endpoint."""
    return {
        "KOINE_ARTIFACT": str(artifact.path),
        "KOINE_PROVIDER": "cpu",
        "KOINE_LOG_FORMAT": "json",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        **settings,
    }


def test_a_collector_gets_the_tree(tiny_artifact: Artifact, tmp_path: Path) -> None:
    with collecting() as collector:
        settings = settings_of(
            tiny_artifact, collector.endpoint, OTEL_BSP_SCHEDULE_DELAY="50",
            OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test",
        )  # fmt: skip
        with bentoml_serve(tmp_path, settings=settings) as server:
            answer = server.client.post("/v1/encode", json=TEXT, headers=SAMPLED)
            assert answer.status_code == 200
            spans = collector.wait_for(lambda spans: bool(servers(spans)))
        (request,) = servers(spans)
        assert request.name == "POST /v1/encode"
        assert request.trace_id.hex() == TRACE
        assert request.parent_span_id.hex() == PARENT
        assert request.trace_state == "vendor=1"
        assert attributes(request)["http.response.status_code"] == 200
        assert attributes(request)["gen_ai.request.model"] == "tiny@0.1"
        below = [span for span in spans if span.parent_span_id == request.span_id]
        assert {span.name for span in below} == {"read", "decode", "queue", "forward", "answer"}
        assert {span.trace_id for span in below} == {request.trace_id}
        for span in below:
            assert request.start_time_unix_nano <= span.start_time_unix_nano
            assert span.end_time_unix_nano <= request.end_time_unix_nano
        assert abs(request.start_time_unix_nano / 1e9 - time.time()) < 600
        assert collector.resource["service.name"] == "koine"
        assert collector.resource["deployment.environment.name"] == "test"


def test_requests_that_share_a_pass_are_linked_to_it(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    def shared(spans: list[Span]) -> list[Span]:
        return [span for span in spans if span.name.startswith("forward ") and len(span.links) > 1]

    with collecting() as collector:
        settings = settings_of(tiny_artifact, collector.endpoint, OTEL_BSP_SCHEDULE_DELAY="50")
        with (
            bentoml_serve(tmp_path, settings=settings) as server,
            ThreadPoolExecutor(16) as pool,
        ):
            deadline = time.monotonic() + 60
            while not shared(collector.spans):
                assert time.monotonic() < deadline, "no two requests have shared a pass"
                sent = pool.map(lambda _: server.client.post("/v1/encode", json=TEXT), range(64))
                assert {answer.status_code for answer in sent} == {200}
                time.sleep(0.2)
        # the server has ended, and sent what was left
        spans = collector.spans
        by_id = {span.span_id: span for span in servers(spans)}
        for one in shared(spans):
            requests = [by_id[link.span_id] for link in one.links]
            assert attributes(one)["koine.batch.requests"] == len(requests)
            assert len({request.trace_id for request in requests}) == len(requests)
            for request in requests:
                stages = [
                    span for span in spans
                    if span.parent_span_id == request.span_id and span.name == "forward"
                ]  # fmt: skip
                assert one.span_id in {link.span_id for stage in stages for link in stage.links}


def servers(spans: list[Span]) -> list[Span]:
    """Server spans alone."""
    return [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]


def test_the_last_spans_are_sent_at_the_end(tiny_artifact: Artifact, tmp_path: Path) -> None:
    with collecting() as collector:
        settings = settings_of(tiny_artifact, collector.endpoint, OTEL_BSP_SCHEDULE_DELAY="600000")
        with bentoml_serve(tmp_path, settings=settings) as server:
            server.client.post("/v1/encode", json=TEXT)
            assert collector.spans == []
        assert len(servers(collector.spans)) == 1


def test_nothing_is_sent_where_no_endpoint_is_named(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    """The standard port on this machine is where an exporter would send by default."""
    with bentoml_serve(tmp_path, settings=settings_of(tiny_artifact, "")) as server:
        assert server.client.post("/v1/encode", json=TEXT, headers=SAMPLED).status_code == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
    assert "opentelemetry" not in server.log
    assert "traces" not in server.log


@contextmanager
def refusing() -> Iterator[str]:
    """An endpoint where nobody listens."""
    yield f"http://127.0.0.1:{free_port()}"


@contextmanager
def hanging() -> Iterator[str]:
    """An endpoint that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("collector", [refusing, hanging])
def test_a_collector_that_is_away_costs_no_request(
    tiny_artifact: Artifact, tmp_path: Path, collector: Any
) -> None:
    with collector() as endpoint:
        settings = settings_of(
            tiny_artifact, endpoint, OTEL_BSP_SCHEDULE_DELAY="10",
            OTEL_BSP_MAX_QUEUE_SIZE="64", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="8",
        )  # fmt: skip
        with bentoml_serve(tmp_path, settings=settings) as server:
            server.client.timeout = 8  # less than an export may take
            for _ in range(60):  # more spans than the queue holds
                assert server.client.post("/v1/encode", json=TEXT).status_code == 200
            server.process.send_signal(signal.SIGTERM)
            start = time.monotonic()
            assert server.process.wait(60) == 0
            # the SDK's own shutdown would wait 30 s for the one that hangs
            assert time.monotonic() - start < 15 + FLUSH_S
        told = [line for line in server.log.splitlines() if "opentelemetry" in line]
        assert len(told) < 20, "a collector that is away floods the log"
