"""From what a service answers to Koine's own exceptions; sends and repeats nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from koine import errors
from koine.errors import ClientError, KoineError, OverloadedError

_PREFIX = "urn:koine:error:"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one request has no answer."""

    error: KoineError
    retry: bool = False
    """Whether the same request may succeed a little later."""
    retry_after_s: float | None = None
    """When the service wants to see it again."""


def error_of(
    type_: str,
    detail: str,
    retry_after_s: float | None = None,
    fallback: type[KoineError] = KoineError,
) -> KoineError:
    """The exception that a problem's `type` names; `fallback` for a type that is not Koine's."""
    kind = _TYPES.get(type_, fallback)
    if issubclass(kind, OverloadedError):
        return kind(detail, 1.0 if retry_after_s is None else retry_after_s)
    return kind(detail)


def type_of(error: KoineError) -> str:
    """The URI of an error's class, as the service writes it."""
    return _urn(type(error))


def of_status(status: int) -> type[KoineError]:
    """The class of an HTTP answer that does not say its own."""
    if status >= 500:
        return _STATUS.get(status, KoineError)
    return _STATUS.get(status, ClientError)


_STATUS: dict[int, type[KoineError]] = {
    400: errors.RequestError,
    401: errors.UnauthorizedError,
    403: errors.ForbiddenError,
    412: errors.ConflictError,
    413: errors.TooLargeError,
    429: OverloadedError,
    502: errors.ServiceUnavailableError,
    503: errors.ServiceUnavailableError,
    504: errors.DeadlineError,
}


def _urn(kind: type[KoineError]) -> str:
    name = "Internal" if kind is KoineError else kind.__name__.removesuffix("Error")
    return _PREFIX + re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


def _tree(root: type[KoineError]) -> Iterator[type[KoineError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


_TYPES = {_urn(kind): kind for kind in _tree(KoineError)}
