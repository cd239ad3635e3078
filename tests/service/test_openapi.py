"""The OpenAPI document and docs/api.md tell what the service does, completely."""

from __future__ import annotations

import re
from typing import Any

import pytest
from starlette.routing import Route
from starlette.testclient import TestClient

from service.errors import STATUS, error_type
from service.metrics import REASONS, STAGES
from service.routes import create_app
from service.settings import PREFIX, Settings
from tests.service.process import ROOT

API = (ROOT / "docs" / "api.md").read_text()
PATHS = [route.path for route in create_app(Settings()).routes if isinstance(route, Route)]


@pytest.fixture(scope="module")
def document(client: TestClient) -> dict[str, Any]:
    return client.get("/openapi.json").json()


def test_every_endpoint_is_in_the_document(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert set(PATHS) - {"/healthz"} == document["paths"].keys()


def test_every_reference_leads_to_a_schema(document: dict[str, Any]) -> None:
    references = set(re.findall(r"'#/components/schemas/(\w+)'", str(document)))
    assert {"EncodeRequest", "InputItem", "EncodeResponse", "Problem"} <= references
    assert references <= document["components"]["schemas"].keys()


def test_what_encode_takes_is_described(document: dict[str, Any]) -> None:
    operation = document["paths"]["/v1/encode"]["post"]
    media_types = {"application/json", "multipart/form-data", "image/*"}
    assert operation["requestBody"]["content"].keys() == media_types
    codes = "200 400 401 403 404 413 415 429 500 503 504"
    assert operation["responses"].keys() == set(codes.split())


def test_answers_have_the_keys_of_the_document(
    document: dict[str, Any], client: TestClient
) -> None:
    schemas = document["components"]["schemas"]
    info = client.get("/v1/info").json()
    assert info.keys() == schemas["InfoResponse"]["properties"].keys()
    asked = {"inputs": [{"text": "a dog"}, {"text": ""}], "names": True}
    answer = client.post("/v1/encode", json=asked).json()
    assert answer.keys() == schemas["EncodeResponse"]["properties"].keys()
    good, bad = answer["results"]
    assert good.keys() == schemas["EncodedItem"]["properties"].keys()
    assert good["codes"]["tiny_text"].keys() == schemas["ItemCodes"]["properties"].keys()
    assert bad.keys() == schemas["FailedItem"]["properties"].keys()
    assert bad["error"].keys() == schemas["ItemError"]["properties"].keys()


@pytest.mark.parametrize("path", PATHS)
def test_every_endpoint_is_documented(path: str) -> None:
    assert re.search(rf"`(GET |POST )?{re.escape(path)}`", API), path


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented_with_its_default(name: str) -> None:
    default = Settings.model_fields[name].default
    told = "none" if default is None else f"{default:g}" if isinstance(default, float) else default
    row = re.search(rf"^\| `{PREFIX}{name.upper()}` \| `?([^|`]+)`? \|", API, re.M)
    assert row, f"{PREFIX}{name.upper()} is not in docs/api.md"
    assert row[1].strip() == str(told)


def test_no_other_setting_is_documented() -> None:
    told = set(re.findall(rf"`{PREFIX}([A-Z_]+)`", API))
    assert told == {name.upper() for name in Settings.model_fields}


def test_every_metric_is_documented(client: TestClient) -> None:
    text = client.get("/metrics").text
    names = set(re.findall(r"^# HELP (koine_\w+) ", text, re.M))
    told = set(re.findall(r"^\| `(koine_\w+)`", API, re.M))
    assert {name for name in names if not name.endswith("_created")} == told
    for word in (*STAGES, *REASONS):
        assert word in API


def test_the_error_types_that_clients_meet_are_documented() -> None:
    met = [error for error, status in STATUS.items() if status.http < 500 or status.http == 503]
    for error in met:
        name = error_type(error("x")).rsplit(":", 1)[1]
        # the first two and the last reach a client as `not-ready`, one is the Python client's own
        if name not in ("artifact", "encoder", "service-unavailable", "writer-busy"):
            assert f"`{name}`" in API, name
