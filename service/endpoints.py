"""What the OpenAPI document says of each route; tests hold it against the routes themselves."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import BaseModel

from service.schemas import (
    CompareRequest,
    CompareResponse,
    ConceptCard,
    ConceptChange,
    ConceptsQuery,
    ConceptsResponse,
    DictionaryQuery,
    DriftConceptsQuery,
    DriftConceptsResponse,
    DriftQuery,
    DriftResponse,
    EmbeddingsRequest,
    EmbeddingsResponse,
    EncodeRequest,
    EncodeResponse,
    Health,
    InferRequest,
    InferResponse,
    InfoResponse,
    LocalizeRequest,
    LocalizeResponse,
    ModelConfig,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
    TranslateRequest,
    TranslateResponse,
)


class Endpoint(NamedTuple):
    """What the document says of one route."""

    method: str
    path: str
    summary: str
    answer: type[BaseModel] | str
    """The model of its 200, or a media type."""
    problems: tuple[int, ...] = ()
    body: type[BaseModel] | None = None
    """The model of what it takes as JSON."""
    query: type[BaseModel] | None = None
    """The model of its query."""
    cached: bool = False
    """Whether it answers `If-None-Match`."""
    guarded: bool = False
    """Whether it needs `If-Match`."""


WORK = (400, 401, 403, 404, 413, 415, 429, 500, 503, 504)
"""How requests for codes can be refused."""
FACTS = (400, 401, 403, 404, 429, 500, 503)
"""How questions about what is served can be refused."""
CHANGE = (400, 401, 403, 404, 409, 412, 413, 415, 428, 429, 500, 503)
"""How changes can be refused."""
PROBE = (503,)
_MODEL = "/v2/models/{model}"
_VERSION = _MODEL + "/versions/{version}"

ENDPOINTS = (
    Endpoint("post", "/v1/encode", "Images, texts or activations to concept codes",
             EncodeResponse, WORK, EncodeRequest),
    Endpoint("post", "/v1/embeddings", "Codes in the shape of OpenAI's embeddings",
             EmbeddingsResponse, WORK, EmbeddingsRequest),
    Endpoint("post", "/v1/compare", "Where the streams of each item agree, and about what",
             CompareResponse, WORK, CompareRequest),
    Endpoint("post", "/v1/translate", "What another stream's encoder would have computed",
             TranslateResponse, WORK, TranslateRequest),
    Endpoint("post", "/v1/localize", "Where in an image a concept lies, or what a text means",
             LocalizeResponse, WORK, LocalizeRequest),
    Endpoint("get", "/v1/concepts", "The dictionary's concepts, a page at a time",
             ConceptsResponse, FACTS, query=ConceptsQuery, cached=True),
    Endpoint("get", "/v1/concepts/{id}", "All that is known of one concept",
             ConceptCard, FACTS, query=DictionaryQuery, cached=True),
    Endpoint("patch", "/v1/concepts/{id}", "Verify, reject or rename a label, or withdraw that",
             ConceptCard, CHANGE, ConceptChange, query=DictionaryQuery, guarded=True),
    Endpoint("get", "/v1/concepts/{id}/exemplars/{n}", "An exemplar's thumbnail",
             "image/jpeg", FACTS, query=DictionaryQuery, cached=True),
    Endpoint("get", "/v1/info", "The dictionary, its streams and the limits",
             InfoResponse, FACTS, query=DictionaryQuery),
    Endpoint("get", "/v1/drift", "How the traffic's concepts differ from the reference",
             DriftResponse, FACTS, query=DriftQuery),
    Endpoint("get", "/v1/drift/concepts", "Every concept that was tested for drift",
             DriftConceptsResponse, FACTS, query=DriftConceptsQuery),
    Endpoint("get", "/v2", "What this server is", ServerMetadata, FACTS),
    Endpoint("get", "/v2/health/live", "As /livez", ServerLive, PROBE),
    Endpoint("get", "/v2/health/ready", "As /readyz", ServerReady, PROBE),
    *(
        endpoint
        for path in (_MODEL, _VERSION)
        for endpoint in (
            Endpoint("get", path, "A dictionary's inputs and outputs", ModelMetadata, FACTS),
            Endpoint("get", path + "/ready", "Whether it is served", ModelReady, FACTS),
            Endpoint("get", path + "/config", "The same as Triton has it", ModelConfig, FACTS),
            Endpoint("post", path + "/infer", "Tensors to codes as tensors",
                     InferResponse, WORK, InferRequest),
        )
    ),
    Endpoint("get", "/livez", "Whether the process works; restart it if not", Health, PROBE),
    Endpoint("get", "/readyz", "Whether the artifact is verified and warm", Health, PROBE),
    Endpoint("get", "/metrics", "Prometheus metrics of all workers", "text/plain", (401, 403, 429)),
    Endpoint("get", "/openapi.json", "This document", "application/json"),
    Endpoint("get", "/docs", "This document as a page", "text/html"),
    Endpoint("get", "/concepts", "A page for people who check concepts", "text/html"),
)  # fmt: skip
