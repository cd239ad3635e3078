"""`GET /v1/concepts`: what the concepts of a dictionary are called and how often they fire."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from koine.concepts import Concept
from service.concepts import check_cursor, concept_at, find_concepts
from service.dictionary import Dictionary
from service.reading import read_query
from service.routes.request import core_of, json_bytes
from service.schemas import ConceptsQuery, DictionaryQuery


async def concepts(request: Request) -> Response:
    """`GET /v1/concepts`: a page of them, by id."""
    asked = read_query(request.query_params, ConceptsQuery)
    dictionary = core_of(request).dictionaries.find(asked.dictionary)
    if asked.cursor is not None:
        check_cursor(dictionary, asked.cursor)
    if _has(request, dictionary):
        return _unchanged(dictionary)
    find = partial(
        find_concepts,
        dictionary,
        q=asked.q,
        status=asked.status,
        limit=asked.limit,
        cursor=asked.cursor,
    )
    page = await asyncio.to_thread(find)
    answer = {
        "dictionary": dictionary.title,
        "concepts": [concept_json(concept) for concept in page.concepts],
        "next": page.next,
    }
    return _answer(dictionary, answer)


async def one_concept(request: Request) -> Response:
    """`GET /v1/concepts/{id}`."""
    asked = read_query(request.query_params, DictionaryQuery)
    dictionary = core_of(request).dictionaries.find(asked.dictionary)
    concept = concept_at(dictionary, request.path_params["id"])
    if _has(request, dictionary):
        return _unchanged(dictionary)
    return _answer(dictionary, concept_json(concept))


def concept_json(concept: Concept) -> dict[str, Any]:
    """One concept as every answer has it."""
    return {
        "id": concept.id,
        "label": concept.label,
        "status": concept.status,
        "score": concept.score,
        "rate": concept.rate,
    }


def _answer(dictionary: Dictionary, answer: object) -> Response:
    return Response(json_bytes(answer), media_type="application/json", headers=_caching(dictionary))


def _unchanged(dictionary: Dictionary) -> Response:
    return Response(status_code=304, headers=_caching(dictionary))


def _caching(dictionary: Dictionary) -> dict[str, str]:
    """A client may keep the answer, and must ask whether it still holds."""
    return {"ETag": _etag(dictionary), "Cache-Control": "private, no-cache"}


def _etag(dictionary: Dictionary) -> str:
    # all that these answers say is in the artifact, whose digest stands for every byte of it
    return f'"{dictionary.encoder.artifact.digest[:32]}"'


def _has(request: Request, dictionary: Dictionary) -> bool:
    """Whether the client says that it has this very answer."""
    given = request.headers.get("if-none-match", "")
    tags = {tag.strip().removeprefix("W/") for tag in given.split(",")}
    return not tags.isdisjoint({"*", _etag(dictionary)})
