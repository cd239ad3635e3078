"""Counting by the app's own route templates, and the request's id in every answer."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from service.metrics import OTHER_ROUTE, REQUESTS
from service.observe import Observe, outcome
from service.telemetry import access


async def _echo(request: Request) -> Response:
    return PlainTextResponse(str(request.path_params))


async def _fail(_: Request) -> Response:
    raise ZeroDivisionError("a secret")


async def _half() -> AsyncIterator[bytes]:
    yield b"half"
    raise ZeroDivisionError


async def _break_off(_: Request) -> Response:
    return StreamingResponse(_half())


@pytest.fixture
def client() -> Iterator[TestClient]:
    routes = [
        Route("/t/things/{id:int}", _echo, methods=["GET", "PATCH"]),
        Route("/t/fail", _fail),
        Route("/t/break", _break_off),
        Mount("/t/models", routes=[Route("/{name}/infer", _echo, methods=["POST"])]),
        Route("/livez", _echo),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(Observe, routes=routes)])
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def counted() -> dict[tuple[str, str], float]:
    """Requests by route and outcome."""
    (metric,) = REQUESTS.collect()
    return {
        (sample.labels["route"], sample.labels["outcome"]): sample.value
        for sample in metric.samples
        if sample.name.endswith("_total")
    }


@contextmanager
def one_more(route: str, result: str) -> Iterator[None]:
    """Checks that this series alone has one more at the end, and that no series is new."""
    before = counted()
    yield
    after = counted()
    assert after.keys() == before.keys()
    changed = {labels for labels, value in after.items() if value != before[labels]}
    assert changed == {(route, result)}
    assert after[route, result] == before[route, result] + 1


@pytest.mark.parametrize(
    ("method", "path", "route", "result"),
    [
        ("GET", "/t/things/1", "/t/things/{id}", "ok"),
        ("PATCH", "/t/things/2?q=x", "/t/things/{id}", "ok"),
        ("DELETE", "/t/things/1", "/t/things/{id}", "client_error"),
        ("POST", "/t/models/a%2Fb%0a/infer", OTHER_ROUTE, "client_error"),
        ("POST", "/t/models/a%20b/infer", "/t/models/{name}/infer", "ok"),
        ("GET", "/t/models/nothing", "/t/models", "client_error"),
        ("GET", "/t/things/x", OTHER_ROUTE, "client_error"),
        ("GET", "/etc/passwd", OTHER_ROUTE, "client_error"),
        ("GET", "/t/fail/", OTHER_ROUTE, "ok"),  # redirected
        ("GET", "/t/fail", "/t/fail", "error"),
        ("GET", "/t/break", "/t/break", "error"),
    ],
)
def test_requests_are_counted_by_template(
    client: TestClient, method: str, path: str, route: str, result: str
) -> None:
    with one_more(route, result):
        try:
            client.request(method, path, follow_redirects=False)
        except ZeroDivisionError:
            assert path == "/t/break"


def test_probes_are_not_counted(client: TestClient) -> None:
    before = counted()
    client.get("/livez")
    assert counted() == before


@pytest.mark.parametrize("path", ["/t/things/1", "/nope", "/t/fail"])
def test_every_answer_has_the_requests_id(client: TestClient, path: str) -> None:
    sane = client.get(path, headers={"x-request-id": "a.b-c_1"})
    assert sane.headers["x-request-id"] == "a.b-c_1"
    for bad in ("a b", "x" * 129, "a/b"):
        answer = client.get(path, headers={"x-request-id": bad})
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    made = {client.get(path).headers["x-request-id"] for _ in range(5)}
    assert len(made) == 5


def test_a_problem_names_its_request(client: TestClient) -> None:
    answer = client.get("/t/fail", headers={"x-request-id": "abc"})
    assert answer.status_code == 500
    assert answer.json()["instance"] == "urn:koine:request:abc"
    assert "secret" not in answer.text


@pytest.mark.parametrize(("policy", "lines"), [("off", 0), ("errors", 1), ("all", 3)])
def test_the_access_log_is_chosen(
    client: TestClient, caplog: pytest.LogCaptureFixture, policy: Any, lines: int
) -> None:
    caplog.set_level(logging.INFO)
    access.configure(policy)
    try:
        for path in ("/t/things/1", "/t/fail", "/nope%0a2026"):
            client.get(path)
    finally:
        access.configure("errors")
    told = [record for record in caplog.records if record.name == access.LOGGER]
    assert len(told) == lines
    for record in told:
        assert "nope" not in record.getMessage()


def test_outcomes_of_statuses() -> None:
    assert [outcome(status) for status in (200, 307, 404, 429, 499, 500, 503)] == [
        "ok", "ok", "client_error", "overloaded", "cancelled", "error", "error",
    ]  # fmt: skip
