"""Prometheus metrics of the service; every label comes from a closed set.

Right over several workers too: BentoML sets `PROMETHEUS_MULTIPROC_DIR`, gauges say how they add
up, and nothing removes a label. BentoML's own metrics are off: they label by raw path.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.multiprocess import (
    MultiProcessCollector,
    mark_process_dead,  # pyright: ignore[reportUnknownVariableType]
)

CONTENT_TYPE = CONTENT_TYPE_LATEST
HEADS = "dictionary-heads"
"""The queue in front of the heads; the others are called after their stream (never with `-`)."""
OTHER_ROUTE = "other"
"""Stands for every path that is no endpoint."""
RPC_ROUTES = (
    "/koine.v1.ConceptService/Encode", "/koine.v1.ConceptService/EncodeStream",
    "/koine.v1.ConceptService/Compare", "/koine.v1.ConceptService/Translate",
    "/koine.v1.ConceptService/Localize",
    "/koine.v1.ConceptService/ListConcepts",
    "/inference.GRPCInferenceService/ModelInfer",
    "/inference.GRPCInferenceService/ModelStreamInfer",
    "/inference.GRPCInferenceService/ModelMetadata", "/inference.GRPCInferenceService/ModelConfig",
)  # fmt: skip
"""The same of gRPC; each message of a stream counts."""
PROBES = ("/livez", "/healthz", "/readyz", "/metrics")
"""Routes that are not counted; the others are the app's own templates."""

OUTCOMES = ("ok", "client_error", "overloaded", "error", "cancelled")
MODALITIES = ("image", "text", "image_text", "activations", "unknown")
STAGES = ("read", "decode", "queue", "forward", "answer")
REASONS = ("queue_full", "too_large", "auth", "forbidden", "rate_limit")
DRIFT_RESULTS = ("counted", "duplicate", "dropped")
AUDIT_KINDS = ("encode", "label", "artifact", "config", "drift", "key")
CACHE_RESULTS = ("hit", "miss", "error", "bypass")
CACHE_DROPS = ("queue_full", "too_large", "unavailable", "refused")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24)
_ITEMS = tuple(2**n for n in range(13))
_CACHE_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

REQUESTS = Counter("koine_requests_total", "Requests answered", ["route", "outcome"])
REQUEST_SECONDS = Histogram(
    "koine_request_duration_seconds", "From the first byte to the last", ["route"], buckets=_SECONDS
)
INFLIGHT = Gauge("koine_inflight_requests", "Requests being answered", multiprocess_mode="livesum")
ITEMS = Counter("koine_items_total", "Items answered", ["modality", "outcome"])
STAGE_SECONDS = Histogram(
    "koine_stage_duration_seconds", "Time spent in a stage", ["stage"], buckets=_SECONDS
)
BATCH_ITEMS = Histogram(
    "koine_batch_items", "Items that went into one forward pass", ["queue"], buckets=_ITEMS
)
QUEUE_ITEMS = Gauge(
    "koine_queue_items", "Items admitted and not yet taken", ["queue"], multiprocess_mode="livesum"
)
QUEUE_LIMIT = Gauge(
    "koine_queue_limit_items", "Items that each queue may hold", multiprocess_mode="livesum"
)
DROPPED = Counter("koine_dropped_items_total", "Items whose client left before the forward pass")
REJECTED = Counter("koine_rejected_requests_total", "Requests that were refused", ["reason"])
DEADLINES = Counter("koine_deadline_missed_total", "Requests that were not answered in time")
RELOADS = Counter("koine_reloads_total", "Artifacts replaced while serving", ["outcome"])
LAST_BATCH = Gauge(
    "koine_last_batch_timestamp_seconds", "End of the latest forward pass", ["queue"],
    multiprocess_mode="livemax",
)  # fmt: skip
CACHE_REQUESTS = Counter(
    "koine_cache_requests_total", "Keys looked up in a tier of the cache", ["tier", "result"]
)
CACHE_SECONDS = Histogram(
    "koine_cache_op_duration_seconds", "Waiting for Redis (get), writing to it (set)",
    ["op"], buckets=_CACHE_SECONDS,
)  # fmt: skip
CACHE_BYTES = Gauge(
    "koine_cache_bytes", "Memory that cached codes take", multiprocess_mode="livesum"
)
CACHE_SHARED = Counter("koine_cache_shared_total", "Items that another's computation answered")
CACHE_DROPPED = Counter(
    "koine_cache_dropped_writes_total", "Codes that were not written to Redis", ["reason"]
)
DEPENDENCY_UP = Gauge(
    "koine_dependency_up", "Whether every worker reaches it", ["dependency"],
    multiprocess_mode="livemin",
)  # fmt: skip
DRIFT_ITEMS = Counter(
    "koine_drift_items_total", "Items that were to be counted for drift", ["result"]
)
AUDIT_EVENTS = Counter("koine_audit_events_total", "Events given to the audit log", ["kind"])
AUDIT_DROPPED = Gauge(
    "koine_audit_dropped_events", "Events lost since the workers started",
    multiprocess_mode="sum",
)  # fmt: skip
AUDIT_BUFFER = Gauge(
    "koine_audit_buffer_events", "Events that wait for the disk", multiprocess_mode="livesum"
)
AUDIT_ENTRIES = Gauge(
    "koine_audit_entries", "Entries of the workers' logs", multiprocess_mode="livesum"
)
AUDIT_SIGNED = Gauge(
    "koine_audit_signed_entries", "Entries under a signed checkpoint", multiprocess_mode="livesum"
)
AUDIT_UNPUBLISHED = Gauge(
    "koine_audit_publish_failures", "Times that a place for checkpoints could not be reached",
    multiprocess_mode="sum",
)  # fmt: skip
READY = Gauge("koine_ready", "Workers that are ready", multiprocess_mode="livesum")
BUILD = Gauge(
    "koine_build_info", "Always 1", ["version", "dictionary", "provider"],
    multiprocess_mode="livemax",
)  # fmt: skip


def prepare_routes(templates: Iterable[str]) -> None:
    """Makes the series of each route with its zero: a rate is right from the first request on."""
    for route in templates:
        REQUEST_SECONDS.labels(route)
        for outcome in OUTCOMES:
            REQUESTS.labels(route, outcome)


def prepare(queues: Sequence[str]) -> None:
    """Makes every other series with its zero."""
    for modality in MODALITIES:
        for outcome in ("ok", "error"):
            ITEMS.labels(modality, outcome)
    for stage in STAGES:
        STAGE_SECONDS.labels(stage)
    for queue in queues:
        BATCH_ITEMS.labels(queue)
        QUEUE_ITEMS.labels(queue).inc(0)
    for outcome in ("ok", "error"):
        RELOADS.labels(outcome)
    for reason in REASONS:
        REJECTED.labels(reason)
    for result in CACHE_RESULTS:
        CACHE_REQUESTS.labels("local", result)
        CACHE_REQUESTS.labels("redis", result)
    for op in ("get", "set"):
        CACHE_SECONDS.labels(op)
    for result in DRIFT_RESULTS:
        DRIFT_ITEMS.labels(result)
    for kind in AUDIT_KINDS:
        AUDIT_EVENTS.labels(kind)
    for reason in CACHE_DROPS:
        CACHE_DROPPED.labels(reason)


def exposition() -> bytes:
    """All metrics, of all workers, in Prometheus' text format."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder is None:
        return generate_latest(REGISTRY)
    _forget_dead_workers(Path(folder))
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # pyright: ignore[reportUnknownMemberType]
    return generate_latest(registry)


def _forget_dead_workers(folder: Path) -> None:
    """Takes workers that were killed out of the gauges: their files outlive them."""
    pids = {int(path.stem.rsplit("_", 1)[1]) for path in folder.glob("gauge_live*.db")}
    for pid in pids:
        if not _runs(pid):
            mark_process_dead(pid)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # signal 0 only asks
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
