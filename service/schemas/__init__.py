"""The JSON of requests and answers as data models; the OpenAPI document is made from them."""

from service.schemas.concepts import (
    CompareEnvelope,
    CompareRequest,
    CompareResponse,
    ConceptCard,
    ConceptChange,
    ConceptInfo,
    ConceptsQuery,
    ConceptsResponse,
    DictionaryQuery,
)
from service.schemas.drift import (
    DriftConceptsQuery,
    DriftConceptsResponse,
    DriftQuery,
    DriftResponse,
)
from service.schemas.embeddings import EmbeddingsEnvelope, EmbeddingsRequest, EmbeddingsResponse
from service.schemas.encode import EncodeEnvelope, EncodeRequest, EncodeResponse, Encoding, Options
from service.schemas.inference import (
    InferRequest,
    InferResponse,
    ModelConfig,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
)
from service.schemas.info import Health, InfoResponse, Limits, StreamInfo
from service.schemas.items import BASE64, NUMBERS, Body, InputItem
from service.schemas.localise import LocalizeOptions, LocalizeRequest, LocalizeResponse
from service.schemas.problem import InferenceProblem, ItemError, Problem
from service.schemas.translate import TranslateEnvelope, TranslateRequest, TranslateResponse

__all__ = [
    "BASE64",
    "NUMBERS",
    "Body",
    "CompareEnvelope",
    "CompareRequest",
    "CompareResponse",
    "ConceptCard",
    "ConceptChange",
    "ConceptInfo",
    "ConceptsQuery",
    "ConceptsResponse",
    "DictionaryQuery",
    "DriftConceptsQuery",
    "DriftConceptsResponse",
    "DriftQuery",
    "DriftResponse",
    "EmbeddingsEnvelope",
    "EmbeddingsRequest",
    "EmbeddingsResponse",
    "EncodeEnvelope",
    "EncodeRequest",
    "EncodeResponse",
    "Encoding",
    "Health",
    "InferRequest",
    "InferResponse",
    "InferenceProblem",
    "InfoResponse",
    "InputItem",
    "ItemError",
    "Limits",
    "LocalizeOptions",
    "LocalizeRequest",
    "LocalizeResponse",
    "ModelConfig",
    "ModelMetadata",
    "ModelReady",
    "Options",
    "Problem",
    "ServerLive",
    "ServerMetadata",
    "ServerReady",
    "StreamInfo",
    "TranslateEnvelope",
    "TranslateRequest",
    "TranslateResponse",
]
