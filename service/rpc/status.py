"""Koine's errors as gRPC's status, details and trailers; knows no method."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, NoReturn, TypeAlias

import grpc
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from koine.errors import KoineError, NotReadyError, OverloadedError
from koine.proto.koine.v1 import concepts_pb2 as pb
from service.errors import STATUS, error_type

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
MAX_DETAIL_BYTES = 1024
"""Clients refuse trailers above 8 KiB, and a detail stands in them twice."""


class Refusal(NamedTuple):
    """How a call that is not answered ends."""

    code: grpc.StatusCode
    details: str
    trailers: tuple[tuple[str, str | bytes], ...]


def refusal(error: KoineError) -> Refusal:
    """The error's status; `grpc-status-details-bin` has an `ErrorInfo`, whose reason is the
    error's type, and a `RetryInfo` where sending it again helps."""
    code: grpc.StatusCode = grpc.StatusCode[STATUS[type(error)].grpc]
    details = _cut(str(error))
    status = Status(code=code.value[0], message=details)
    _attach(status, ErrorInfo(reason=error_type(error), domain="koine"))
    trailers: list[tuple[str, str | bytes]] = [("koine-error-type", error_type(error))]
    retry_s = retry_after_s(error)
    if retry_s is not None:
        delay_ms = max(1, math.ceil(retry_s * 1000))
        delay = Duration()
        delay.FromMilliseconds(delay_ms)
        _attach(status, RetryInfo(retry_delay=delay))
        trailers.append(("retry-after-ms", str(delay_ms)))
    trailers.append(("grpc-status-details-bin", status.SerializeToString()))
    return Refusal(code, details, tuple(trailers))


async def refuse(context: Context, error: KoineError) -> NoReturn:
    """Ends the call. Always raises."""
    code, details, trailers = refusal(error)
    await context.abort(code, details, trailers)
    raise AssertionError("abort returned")


def error_message(error: KoineError) -> pb.Error:
    """What stands in the place of one item's, or one request's, codes."""
    message = pb.Error(type=error_type(error), title=error.title, detail=str(error))
    retry_s = retry_after_s(error)
    if retry_s is not None:
        message.retry_after = retry_s
    return message


def retry_after_s(error: KoineError) -> float | None:
    """Seconds after which to send it again; None where that does not help."""
    if isinstance(error, OverloadedError):
        return error.retry_after_s
    return 1.0 if isinstance(error, NotReadyError) else None


def _attach(status: Status, detail: ErrorInfo | RetryInfo) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)
    status.details.append(packed)


def _cut(text: str) -> str:
    encoded = text.encode()
    if len(encoded) <= MAX_DETAIL_BYTES:
        return text
    return encoded[: MAX_DETAIL_BYTES - 3].decode(errors="ignore") + "…"
