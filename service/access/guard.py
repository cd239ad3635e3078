"""Lets a request to the HTTP app only with a key whose scope fits; reads no body.

`RULES` says what each path needs. Where keys are configured, a path or a method that no rule
names does not reach the app, so nothing is served that was forgotten here.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from koine.errors import KoineError
from service import telemetry
from service.access.access import Access
from service.access.keys import ANONYMOUS, Key, Scope
from service.errors import http_problem, problem

STATE = "key"
"""Where a request's state has its `Key`."""


class Rule(NamedTuple):
    """What the requests to some paths need."""

    paths: re.Pattern[str]
    """What the whole path must match."""
    methods: frozenset[str]
    scope: Scope | None
    """None needs no key."""


def _rule(methods: str, paths: str, scope: Scope | None) -> Rule:
    return Rule(re.compile(paths), frozenset(methods.split()), scope)


RULES = (
    _rule("GET HEAD", r"/livez|/healthz|/readyz|/v2/health/(live|ready)", None),
    _rule("GET HEAD", r"/docs|/docs/assets/.*|/openapi\.json|/concepts", None),
    _rule("POST", r"/v1/(encode|embeddings|compare|translate|localize)", "encode"),
    _rule("POST", r"/v2/.*/infer", "encode"),
    _rule("GET HEAD POST", r"/v2(/.*)?", "read"),
    _rule("GET HEAD POST PUT PATCH DELETE", r"/v1/admin(/.*)?", "admin"),
    _rule("PATCH", r"/v1/concepts/.+", "label"),
    _rule("GET HEAD", r"/v1/.*", "read"),
)
"""The first rule that fits path and method counts. `.` fits no line feed, with which a path could
mean one thing here and another to a router."""
_METRICS = {auth: _rule("GET HEAD", "/metrics", "read" if auth else None) for auth in (False, True)}


def rule_of(path: str, method: str, *, metrics_auth: bool = False) -> Rule | set[str]:
    """What a request needs; where no rule has its method, the methods that the path has."""
    methods: set[str] = set()
    for rule in (_METRICS[metrics_auth], *RULES):
        if rule.paths.fullmatch(path):
            if method in rule.methods:
                return rule
            methods |= rule.methods
    return methods


class Guard:
    """ASGI middleware; leaves the `Key` in `request.state.key`, the anonymous one on free paths."""

    def __init__(self, app: ASGIApp, access: Access, *, metrics_auth: bool = False) -> None:
        self._app, self._access, self._metrics_auth = app, access, metrics_auth

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            key = ANONYMOUS if self._access.open else self._admitted(Request(scope))
        except KoineError as error:
            await problem(error, scope["path"])(scope, receive, send)
            return
        except HTTPException as error:
            await http_problem(error, scope["path"])(scope, receive, send)
            return
        scope.setdefault("state", {})[STATE] = key
        await self._app(scope, receive, send)

    def _admitted(self, request: Request) -> Key:
        """Raises what the request is refused with; takes it from the key's rate otherwise."""
        path, method = request.scope["path"], request.method
        rule = rule_of(path, method, metrics_auth=self._metrics_auth)
        if isinstance(rule, Rule) and rule.scope is None:
            return ANONYMOUS
        key = self._access.key_of(*_credentials(request))
        telemetry.note(key=key.name, key_id=key.known_id)
        if isinstance(rule, Rule) and rule.scope is not None:
            self._access.check(key, rule.scope)
        self._access.spend(key, requests=1)
        if not isinstance(rule, Rule):
            raise _nowhere(path, method, rule)
        return key


def _credentials(request: Request) -> tuple[str | None, str | None]:
    """The two headers that may carry a key; one that is sent twice has no one meaning."""
    found = [request.headers.getlist(name) for name in ("authorization", "x-api-key")]
    authorization, api_key = (
        None if not values else values[0] if len(values) == 1 else "" for values in found
    )
    return authorization, api_key


def _nowhere(path: str, method: str, methods: set[str]) -> HTTPException:
    if not methods:
        return HTTPException(404, f"{path} is no endpoint of this service; /docs lists them")
    allowed = {"Allow": ", ".join(sorted(methods))}
    return HTTPException(405, f"{method} is not allowed here; /docs says what is", allowed)
