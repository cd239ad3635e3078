"""A request in the names of OpenTelemetry's semantic conventions; knows no span and no ASGI.

HTTP's are stable; those of RPC and of generative AI are still in development, as of 1.45.
"""

from __future__ import annotations

from opentelemetry.util.types import AttributeValue

from service.telemetry.context import Outcome, RequestContext

UNKNOWN_METHOD = "_OTHER"
_METHODS = frozenset(
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]
)


def known_method(method: str) -> str:
    """An HTTP method of the closed set that the conventions ask for."""
    return method if method in _METHODS else UNKNOWN_METHOD


def transport_attributes(
    request: RequestContext,
    *,
    status: str,
    outcome: Outcome,
    route: str | None,
    error: str | None,
) -> dict[str, AttributeValue]:
    """`http.*` or `rpc.*`, and `error.type` where the service is at fault or the client left."""
    about: dict[str, AttributeValue] = {"koine.request.id": request.id, "koine.outcome": outcome}
    if request.key is not None:
        about["koine.key"] = request.key
    if request.protocol == "http":
        about["http.request.method"] = request.method
        if outcome != "cancelled":  # then none was sent
            about["http.response.status_code"] = int(status)
        if route is not None:
            about["http.route"] = route
    else:
        about |= {"rpc.system.name": "grpc", "rpc.method": request.method}
        about["rpc.response.status_code"] = status
    if outcome == "cancelled":
        about["error.type"] = "cancelled"
    elif outcome == "error":
        about["error.type"] = error or status
    return about


def encoding_attributes(request: RequestContext) -> dict[str, AttributeValue]:
    """`gen_ai.*` of a request that had items encoded."""
    if request.items is None:
        return {}
    about: dict[str, AttributeValue] = {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": "koine",
        "koine.items": request.items,
    }
    if request.dictionary is not None:
        about["gen_ai.request.model"] = about["gen_ai.response.model"] = request.dictionary
    return about
