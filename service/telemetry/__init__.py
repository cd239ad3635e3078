"""What the service tells of itself while it works: log lines, request ids, traces; no metrics.

A transport calls `begin` and `finish` around each request; between them `note` and `stage` add
what is known. Nothing here can fail a request, and nothing is sent anywhere unless
`OTEL_EXPORTER_OTLP_ENDPOINT` is set.
"""

from service.telemetry.context import (
    REQUEST_ID_HEADER,
    Outcome,
    RequestContext,
    current,
    instance_uri,
    note,
)
from service.telemetry.edge import begin, finish, running
from service.telemetry.stages import forward_pass, stage

__all__ = [
    "REQUEST_ID_HEADER", "Outcome", "RequestContext", "begin", "current", "finish",
    "forward_pass", "instance_uri", "note", "running", "stage",
]  # fmt: skip
