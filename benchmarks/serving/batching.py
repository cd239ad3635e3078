"""How `batchable.py` is started and asked; no BentoML, which is not for a generator."""

from __future__ import annotations

import json
from collections.abc import Sequence

from benchmarks.serving.load import Request
from benchmarks.serving.samples import Sample

TARGET = "benchmarks.serving.batchable:Batchable"
PATH = "/encode"
MAX_BATCH = 32
LATENCIES_MS = (100, 1000, 10_000)
"""Of `max_latency_ms`; the best counts."""
LATENCY_VARIABLE = "BASELINE_LATENCY_MS"
ARTIFACT_VARIABLE = "BASELINE_ARTIFACT"


def requests(samples: Sequence[Sample]) -> list[Request]:
    """One image a request."""
    items = (sample.item("")["image"] for sample in samples)
    return [Request(json.dumps({"images": [image]}).encode()) for image in items]
