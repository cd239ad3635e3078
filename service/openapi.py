"""The OpenAPI document, made from the schemas, and a page that shows it without the network."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import koine
from service.schemas import EncodeRequest, EncodeResponse, Health, InfoResponse, Problem

ASSETS = str(files("bentoml._internal.server") / "static_content")
"""Swagger UI as BentoML's package carries it."""

DOCS_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Koine API</title>
<link rel="stylesheet" href="docs/assets/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/assets/swagger-ui-bundle.js"></script>
<script>
window.onload = () => SwaggerUIBundle({url: "openapi.json", dom_id: "#swagger-ui"})
</script>
</body>
</html>
"""


class Endpoint(NamedTuple):
    """What the document says of one route."""

    method: str
    path: str
    summary: str
    answer: type[BaseModel] | str
    """The model of its 200, or a media type."""
    problems: tuple[int, ...] = ()


ENDPOINTS = (
    Endpoint("post", "/v1/encode", "Images, texts or activations to concept codes",
             EncodeResponse, (400, 413, 415, 429, 503)),
    Endpoint("get", "/v1/info", "The dictionary, its streams and the limits", InfoResponse, (503,)),
    Endpoint("get", "/livez", "Whether the process works; restart it if not", Health, (503,)),
    Endpoint("get", "/readyz", "Whether the artifact is verified and warm", Health, (503,)),
    Endpoint("get", "/metrics", "Prometheus metrics of all workers", "text/plain"),
    Endpoint("get", "/openapi.json", "This document", "application/json"),
    Endpoint("get", "/docs", "This document as a page", "text/html"),
)  # fmt: skip


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document of this service."""
    models = (EncodeRequest, EncodeResponse, InfoResponse, Health, Problem)
    _, schemas = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    paths: dict[str, Any] = {}
    for endpoint in ENDPOINTS:
        paths[endpoint.path] = {endpoint.method: _operation(endpoint)}
    paths["/v1/encode"]["post"] |= _encode_request()
    return {
        "openapi": "3.1.0",
        "info": {"title": "Koine", "version": koine.__version__},
        "paths": paths,
        "components": {"schemas": schemas["$defs"]},
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    if isinstance(endpoint.answer, str):
        content: dict[str, Any] = {endpoint.answer: {}}
    else:
        content = {"application/json": {"schema": _ref(endpoint.answer)}}
    responses: dict[str, Any] = {"200": {"description": "OK", "content": content}}
    for status in endpoint.problems:
        responses[str(status)] = {
            "description": "Refused; `detail` says why",
            "content": {"application/problem+json": {"schema": _ref(Problem)}},
        }
    return {"summary": endpoint.summary, "responses": responses}


def _encode_request() -> dict[str, Any]:
    text = {"type": "string"}
    files_and_options = {
        "image": {"type": "array", "items": {"type": "string", "contentMediaType": "image/*"}},
        "text": {"type": "array", "items": text},
        "streams": text, "mode": text, "top_k": text, "encoding": text,
    }  # fmt: skip
    options = [
        {"name": name, "in": "query", "required": False, "schema": text,
         "description": "For raw images and forms; JSON has it in the body."}
        for name in ("streams", "mode", "top_k", "encoding")
    ]  # fmt: skip
    content: dict[str, Any] = {
        "application/json": {"schema": _ref(EncodeRequest)},
        "multipart/form-data": {"schema": {"type": "object", "properties": files_and_options}},
        "image/*": {"schema": {"type": "string", "format": "binary"}},
    }
    return {"parameters": options, "requestBody": {"required": True, "content": content}}


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}
