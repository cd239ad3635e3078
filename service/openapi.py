"""The OpenAPI document, made from the schemas, and a page that shows it without the network."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import koine
from service.endpoints import ENDPOINTS, Endpoint
from service.errors import INFERENCE
from service.schemas import (
    EncodeRequest,
    InferenceProblem,
    InferRequest,
    LocalizeRequest,
    Problem,
)

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


_TIMEOUT = {
    "name": "Koine-Timeout-Ms", "in": "header", "required": False,
    "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999},
    "description": "How long the client will wait.",
}  # fmt: skip
_SEGMENT = {
    "name": "Koine-Segment", "in": "header", "required": False,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    "description": "What this traffic belongs to: drift is told of each such segment too.",
}  # fmt: skip
_LENGTH = {
    "name": "Inference-Header-Content-Length", "in": "header", "required": False,
    "schema": {"type": "integer", "minimum": 1},
    "description": "Bytes of the JSON, where raw tensors follow it.",
}  # fmt: skip
_IF_NONE_MATCH = {
    "name": "If-None-Match", "in": "header", "required": False, "schema": {"type": "string"},
    "description": "The `ETag` of an answer that the client has.",
}  # fmt: skip
_IF_MATCH = {
    "name": "If-Match", "in": "header", "required": True, "schema": {"type": "string"},
    "description": "The `ETag` of the state that is changed.",
}  # fmt: skip
_ETAG = {"ETag": {"schema": {"type": "string"}, "description": "Stands for the answer."}}
_BINARY = {"type": "string", "format": "binary"}


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document of this service."""
    models: set[type[BaseModel]] = {Problem, InferenceProblem}
    paths: dict[str, Any] = {}
    for endpoint in ENDPOINTS:
        models |= {m for m in (endpoint.body, endpoint.answer) if isinstance(m, type)}
        paths.setdefault(endpoint.path, {})[endpoint.method] = _operation(endpoint)
    _, schemas = models_json_schema(
        [(model, "validation") for model in sorted(models, key=lambda model: model.__name__)],
        ref_template="#/components/schemas/{model}",
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": "Koine", "version": koine.__version__},
        "paths": paths,
        "components": {"schemas": schemas["$defs"]},
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": endpoint.summary, "responses": _responses(endpoint)}
    if parameters := _parameters(endpoint):
        operation["parameters"] = parameters
    if endpoint.body is not None:
        operation["requestBody"] = {"required": True, "content": _body(endpoint.body)}
    return operation


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    if isinstance(endpoint.answer, str):
        content: dict[str, Any] = {endpoint.answer: {}}
    else:
        content = {"application/json": {"schema": _ref(endpoint.answer)}}
    if endpoint.body is InferRequest:
        content["application/octet-stream"] = {"schema": _BINARY}
    if endpoint.body is LocalizeRequest:
        content["image/png"] = {"schema": _BINARY}
    responses: dict[str, Any] = {"200": {"description": "OK", "content": content}}
    if endpoint.cached:
        responses["200"]["headers"] = _ETAG
        responses["304"] = {"description": "The client's answer still holds", "headers": _ETAG}
    if endpoint.guarded:
        responses["200"]["headers"] = _ETAG
    for status in endpoint.problems:
        responses[str(status)] = {
            "description": "Refused; `detail` says why",
            "content": {"application/problem+json": {"schema": _ref(_problem(endpoint.path))}},
        }
    return responses


def _problem(path: str) -> type[Problem]:
    return InferenceProblem if path.startswith(INFERENCE) else Problem


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": _path_schema(name)}
        for name in re.findall(r"\{(\w+)\}", endpoint.path)
    ]
    if endpoint.query is not None:
        for name, schema in endpoint.query.model_json_schema()["properties"].items():
            parameters.append({"name": name, "in": "query", "required": False, "schema": schema})
    parameters += _options(endpoint.body)
    if endpoint.body is InferRequest:
        parameters.append(_LENGTH)
    if endpoint.guarded:
        parameters.append(_IF_MATCH)
    elif endpoint.body is not None:
        parameters += [_TIMEOUT, _SEGMENT]
    if endpoint.cached:
        parameters.append(_IF_NONE_MATCH)
    return parameters


def _path_schema(name: str) -> dict[str, Any]:
    return (
        {"type": "integer", "minimum": 0}
        if name in ("id", "n")
        else {"type": "string", "minLength": 1}
    )


def _body(model: type[BaseModel]) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": _ref(model)}}
    if model is InferRequest:
        content["application/octet-stream"] = {"schema": _BINARY}
    if model in _OPTIONS:
        content["multipart/form-data"] = {"schema": _form(model)}
        content["image/*"] = {"schema": _BINARY}
    return content


_OPTIONS: dict[type[BaseModel] | None, tuple[str, ...]] = {
    EncodeRequest: ("streams", "mode", "top_k", "encoding", "dictionary"),
    LocalizeRequest: ("concept", "text", "stream", "dictionary"),
}
"""Those that can be had without JSON."""


def _form(model: type[BaseModel]) -> dict[str, Any]:
    text = {"type": "string"}
    image = {"type": "string", "contentMediaType": "image/*"}
    properties: dict[str, Any] = dict.fromkeys(_OPTIONS[model], text)
    if model is LocalizeRequest:
        return {
            "type": "object",
            "required": ["image"],
            "properties": {"image": image} | properties,
        }
    properties |= {
        "image": {"type": "array", "items": image},
        "text": {"type": "array", "items": text},
    }
    return {"type": "object", "properties": properties}


def _options(model: type[BaseModel] | None) -> list[dict[str, Any]]:
    told = "For raw images and forms; JSON has it in the body."
    return [
        {"name": name, "in": "query", "required": False, "schema": {"type": "string"},
         "description": told}
        for name in _OPTIONS.get(model, ())
    ]  # fmt: skip


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}
