"""What each of Koine's errors is over HTTP and gRPC; the only place that knows their codes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from koine import errors
from koine.errors import KoineError
from service.telemetry import instance_uri

GrpcCode = Literal[
    "INVALID_ARGUMENT", "NOT_FOUND", "UNAUTHENTICATED", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION", "ABORTED", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE",
]  # fmt: skip
"""Names of `grpc.StatusCode`, so that HTTP alone needs no grpc package."""


class Status(NamedTuple):
    """How one class of errors is told over the wire."""

    http: int
    grpc: GrpcCode


STATUS: dict[type[KoineError], Status] = {
    errors.KoineError: Status(500, "INTERNAL"),
    errors.InputError: Status(400, "INVALID_ARGUMENT"),
    errors.ImageError: Status(400, "INVALID_ARGUMENT"),
    errors.TextError: Status(400, "INVALID_ARGUMENT"),
    errors.ActivationsError: Status(400, "INVALID_ARGUMENT"),
    errors.UnknownStreamError: Status(400, "INVALID_ARGUMENT"),
    errors.UnknownDictionaryError: Status(404, "NOT_FOUND"),
    errors.UnknownConceptError: Status(404, "NOT_FOUND"),
    errors.UnknownExemplarError: Status(404, "NOT_FOUND"),
    errors.RequestError: Status(400, "INVALID_ARGUMENT"),
    errors.TooLargeError: Status(413, "INVALID_ARGUMENT"),
    errors.AccessError: Status(403, "PERMISSION_DENIED"),
    errors.UnauthorizedError: Status(401, "UNAUTHENTICATED"),
    errors.ForbiddenError: Status(403, "PERMISSION_DENIED"),
    errors.DataError: Status(500, "INTERNAL"),
    errors.SourceError: Status(500, "INTERNAL"),
    errors.StoreError: Status(500, "INTERNAL"),
    errors.CheckpointError: Status(500, "INTERNAL"),
    errors.LabelsError: Status(500, "INTERNAL"),
    errors.NoLabelsError: Status(409, "FAILED_PRECONDITION"),
    errors.ConflictError: Status(412, "ABORTED"),
    errors.PreconditionError: Status(428, "FAILED_PRECONDITION"),
    errors.ArtifactError: Status(503, "FAILED_PRECONDITION"),
    errors.EncoderError: Status(503, "FAILED_PRECONDITION"),
    errors.TrainingError: Status(500, "INTERNAL"),
    errors.ExportError: Status(500, "INTERNAL"),
    errors.DriftError: Status(503, "UNAVAILABLE"),
    errors.AuditError: Status(503, "UNAVAILABLE"),
    errors.WriterBusyError: Status(503, "UNAVAILABLE"),
    errors.SettingsError: Status(500, "FAILED_PRECONDITION"),
    errors.OverloadedError: Status(429, "RESOURCE_EXHAUSTED"),
    errors.RateLimitError: Status(429, "RESOURCE_EXHAUSTED"),
    errors.DeadlineError: Status(504, "DEADLINE_EXCEEDED"),
    errors.NotReadyError: Status(503, "UNAVAILABLE"),
    # the client's own; the service raises neither
    errors.ServiceUnavailableError: Status(503, "UNAVAILABLE"),
    errors.ClientError: Status(500, "INTERNAL"),
}
"""Every class of the tree has its own entry: nothing is inherited by accident."""

INFERENCE = "/v2"
"""Where the Open Inference Protocol's endpoints are."""
_PHRASE = {404: "Not Found", 405: "Method Not Allowed", 415: "Unsupported Media Type"}


def error_type(error: KoineError) -> str:
    """The URI that stands for the error's class, such as `urn:koine:error:unknown-stream`."""
    name = type(error).__name__.removesuffix("Error")
    if type(error) is KoineError:
        name = "Internal"
    return "urn:koine:error:" + re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


def item_error(error: KoineError) -> dict[str, str]:
    """What stands in the place of one item's codes."""
    return {"type": error_type(error), "title": error.title, "detail": str(error)}


def placed(error: KoineError, place: str) -> KoineError:
    """The same error with its place before it, for answers that have none for an item's error."""
    detail = f"{place}: {error}"
    if isinstance(error, errors.OverloadedError):
        return type(error)(detail, error.retry_after_s)
    return type(error)(detail)


def problem(
    error: KoineError, path: str = "", more: Mapping[str, object] | None = None
) -> JSONResponse:
    """The whole request's answer, as RFC 9457 has it; `path` is the request's, `more` are members
    of its own."""
    headers: dict[str, str] = {}
    if isinstance(error, errors.OverloadedError):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
        headers["Retry-After-Ms"] = str(max(1, math.ceil(error.retry_after_s * 1000)))
    if isinstance(error, errors.NotReadyError):
        headers["Retry-After"] = "1"
    if isinstance(error, errors.UnauthorizedError):
        headers["WWW-Authenticate"] = 'Bearer realm="koine"'
    return _problem(STATUS[type(error)].http, headers, item_error(error), path, more)


def http_problem(error: HTTPException, path: str = "") -> JSONResponse:
    """The answer to what HTTP itself refuses: an unknown path, method or media type."""
    status = error.status_code
    fields = {"type": "about:blank", "title": _PHRASE[status], "detail": error.detail}
    return _problem(status, dict(error.headers or {}), fields, path)


def _problem(
    status: int,
    headers: dict[str, str],
    fields: dict[str, str],
    path: str,
    more: Mapping[str, object] | None = None,
) -> JSONResponse:
    body: dict[str, object] = {"type": fields["type"], "title": fields["title"], "status": status}
    body["detail"] = fields["detail"]
    if (instance := instance_uri()) is not None:
        body["instance"] = instance
    if path == INFERENCE or path.startswith(INFERENCE + "/"):
        body["error"] = fields["detail"]  # what clients of that protocol read
    return JSONResponse(
        {**body, **(more or {})},
        status_code=status,
        headers=headers,
        media_type="application/problem+json",
    )
