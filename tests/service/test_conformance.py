"""The OpenAPI document holds: what it describes is sent to a real server, and checked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi_checks

from koine.artifact import Artifact
from service.openapi import document
from tests.service.process import Server, bentoml_serve

CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.unsupported_method,
]
BY_ITEM = {"/v1/encode", "/v1/compare", "/v1/translate"}
"""Here an item that breaks the schema is an error item of a 200; elsewhere it is refused."""


@pytest.fixture(scope="module")
def server(tiny_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings_ = {"KOINE_ARTIFACT": str(tiny_artifact.path), "KOINE_PROVIDER": "cpu"}
    with bentoml_serve(tmp_path_factory.mktemp("home"), settings=settings_) as server:
        yield server


def described() -> dict[str, Any]:
    """The document without the header that asks for a 504."""
    told = document()
    for operations in told["paths"].values():
        for operation in operations.values():
            parameters = operation.get("parameters", [])
            operation["parameters"] = [p for p in parameters if p["name"] != "Koine-Timeout-Ms"]
    return told


schema = schemathesis.openapi.from_dict(described())


@schema.parametrize()
@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_the_document_holds(case: schemathesis.Case, server: Server) -> None:
    by_item = case.operation.path in BY_ITEM
    more = [] if by_item else [openapi_checks.negative_data_rejection]
    case.call_and_validate(base_url=str(server.client.base_url), checks=[*CHECKS, *more])
