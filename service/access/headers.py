"""What every HTTP answer says to browsers and caches; decides nothing about the request."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import partial

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from service.added_headers import Header, adding
from service.openapi import DOCS_PAGE
from service.page import CONCEPTS_PAGE
from service.settings import Settings

API_POLICY = "default-src 'none'; frame-ancestors 'none'"
HSTS = "max-age=31536000"
"""A year. Without `includeSubDomains`: other names are not this service's to decide about."""


def _hashes(element: str, page: str) -> list[str]:
    """What lets exactly the inline elements of a page through."""
    inline = re.findall(f"<{element}>(.*?)</{element}>", page, re.S)
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in inline]
    return [f"'sha256-{value}'" for value in hashes]


def _docs_policy(page: str) -> str:
    """Lets the page load its own files, run its own scripts and call its own host."""
    scripts = " ".join(["'self'", *_hashes("script", page)])
    # Swagger UI sets styles on its elements and draws with data: images
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


def _concepts_policy(page: str) -> str:
    """Lets the page run its own script, call its own host and show what came from there."""
    return (
        f"default-src 'none'; script-src {' '.join(_hashes('script', page))}; "
        f"style-src {' '.join(_hashes('style', page))}; img-src blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


DOCS_POLICY = _docs_policy(DOCS_PAGE)
CONCEPTS_POLICY = _concepts_policy(CONCEPTS_PAGE)
_POLICIES = {"/docs": DOCS_POLICY, "/concepts": CONCEPTS_POLICY}
_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)


class SecurityHeaders:
    """ASGI middleware around the whole app, refusals and faults included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = partial(_headers, scope["path"], scope.get("scheme", "http"))
        await self._app(scope, receive, adding(headers, send))


def _headers(path: str, scheme: str, own: list[Header]) -> list[Header]:
    """What is added to the answer's own, as it is sent: every answer passes here."""
    policy = _POLICIES.get(path, API_POLICY)
    added = [*_ALWAYS, (b"content-security-policy", policy.encode())]
    if path.startswith(("/v1/", "/v2/")) and not any(name == b"cache-control" for name, _ in own):
        added.append((b"cache-control", b"no-store"))
    if scheme == "https":
        added.append((b"strict-transport-security", HSTS.encode()))
    return added


def cors(settings: Settings) -> list[Middleware]:
    """What lets pages of the `cors_origins` call the service; nothing where there are none."""
    if not settings.origins:
        return []
    # no credentials: keys travel in headers that a page sets itself, never in cookies
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=["GET", "POST", "PATCH"],
            allow_headers=[
                "Authorization",
                "X-API-Key",
                "Content-Type",
                "Koine-Timeout-Ms",
                "Koine-Segment",
                "If-Match",
                "If-None-Match",
            ],
            expose_headers=[
                "ETag",
                "Retry-After",
                "Retry-After-Ms",
                "Server-Timing",
                "X-Request-Id",
            ],
            max_age=600,
        )
    ]
