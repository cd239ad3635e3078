"""Every error of the tree has an HTTP status and a gRPC code of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import get_args

import pytest
from starlette.exceptions import HTTPException

from koine.errors import (
    AccessError,
    ConflictError,
    InputError,
    KoineError,
    NoLabelsError,
    NotReadyError,
    OverloadedError,
    PreconditionError,
)
from service.errors import STATUS, GrpcCode, error_type, http_problem, problem


def tree(root: type[KoineError]) -> Iterator[type[KoineError]]:
    """`root` and every class below it."""
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


ERRORS = list(tree(KoineError))


def test_every_error_has_a_status_of_its_own() -> None:
    assert len(ERRORS) >= 18
    assert set(ERRORS) == STATUS.keys()


@pytest.mark.parametrize("error", ERRORS)
def test_statuses_make_sense(error: type[KoineError]) -> None:
    status = STATUS[error]
    assert status.grpc in get_args(GrpcCode)
    if issubclass(error, InputError):
        assert 400 <= status.http < 500
        assert status.grpc in ("INVALID_ARGUMENT", "NOT_FOUND")
    elif issubclass(error, AccessError):
        assert status.http in (401, 403)
    elif issubclass(error, OverloadedError):
        assert status == (429, "RESOURCE_EXHAUSTED")
    elif error in (ConflictError, NoLabelsError, PreconditionError):
        assert status.http in (409, 412, 428)
    else:
        assert status.http >= 500


def test_types_are_distinct_uris() -> None:
    types = {error_type(error("x")) for error in ERRORS}
    assert len(types) == len(ERRORS)
    assert "urn:koine:error:unknown-stream" in types
    assert "urn:koine:error:internal" in types


@pytest.mark.parametrize("error", ERRORS)
def test_problems_have_what_rfc_9457_names(error: type[KoineError]) -> None:
    answer = problem(error("what happened"))
    body = json.loads(bytes(answer.body))
    assert body == {
        "type": error_type(error("x")),
        "title": error.title,
        "status": STATUS[error].http,
        "detail": "what happened",
    }
    assert answer.status_code == body["status"]
    assert answer.media_type == "application/problem+json"


def test_retry_after_is_whole_seconds_and_at_least_one() -> None:
    assert problem(OverloadedError("full", 0.01)).headers["retry-after"] == "1"
    assert problem(OverloadedError("full", 4.2)).headers["retry-after"] == "5"
    assert problem(NotReadyError("loading")).headers["retry-after"] == "1"
    assert "retry-after" not in problem(InputError("bad")).headers


def test_http_faults_keep_their_headers() -> None:
    answer = http_problem(HTTPException(405, "no", {"Allow": "POST"}))
    assert answer.headers["allow"] == "POST"
    assert json.loads(bytes(answer.body))["title"] == "Method Not Allowed"
