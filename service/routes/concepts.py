"""`/v1/concepts`: what the concepts of a dictionary are called, what shows it, and changing it."""

from __future__ import annotations

import asyncio
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from koine.errors import ConflictError
from koine.labels import Edit
from service.body import read_body
from service.cards import card_json, card_of, change_label, concept_json, thumbnail_of
from service.concepts import Query, check_query, concept_at, find_concepts
from service.dictionary import Dictionary
from service.errors import problem
from service.reading import read_object, read_query
from service.routes.request import check_json, core_of, json_bytes
from service.schemas import ConceptChange, ConceptsQuery, DictionaryQuery


async def concepts(request: Request) -> Response:
    """`GET /v1/concepts`: a page of them."""
    asked = read_query(request.query_params, ConceptsQuery)
    dictionary = core_of(request).dictionaries.find(asked.dictionary)
    query = Query(**asked.model_dump(exclude={"dictionary"}))
    check_query(dictionary, query)
    labelled = await dictionary.book.current()
    if _has(request, tag := _list_tag(dictionary, labelled.layer.revision)):
        return _unchanged(tag)
    page = await asyncio.to_thread(find_concepts, dictionary, query)
    answer = {
        "dictionary": dictionary.title,
        "concepts": [concept_json(concept) for concept in page.concepts],
        "next": page.next,
    }
    return _answer(answer, _list_tag(dictionary, page.labelled.layer.revision))


async def one_concept(request: Request) -> Response:
    """`GET /v1/concepts/{id}`: its card; `PATCH`: verify, reject or rename its label, or withdraw
    that."""
    # one route for both: a 405 then names both
    return await (_change if request.method == "PATCH" else _card)(request)


async def _card(request: Request) -> Response:
    dictionary, id_ = _asked(request)
    card = await card_of(dictionary, id_)
    if _has(request, card.etag):
        return _unchanged(card.etag)
    return _answer(card_json(card), card.etag)


async def _change(request: Request) -> Response:
    check_json(request)
    dictionary, id_ = _asked(request)
    core = core_of(request)
    with core.inflight.account() as account:
        body = await read_body(request, core.settings.max_body_bytes, account)
        wanted = read_object(body, ConceptChange)
    edit = Edit(concept=id_, status=wanted.status, label=wanted.label, reason=wanted.reason)
    given = request.headers.get("if-match")
    try:
        card = await change_label(dictionary, edit, given, request.state.key.person)
    except ConflictError as error:
        card = await card_of(dictionary, id_)
        refused = problem(error, request.scope["path"], {"current": card_json(card)})
        refused.headers["ETag"] = card.etag
        return refused
    return _answer(card_json(card), card.etag)


async def exemplar(request: Request) -> Response:
    """`GET /v1/concepts/{id}/exemplars/{n}`: the thumbnail, a JPEG."""
    dictionary, id_ = _asked(request)
    concept, place = dictionary.concepts[id_], request.path_params["n"]
    # pictures are the artifact's: its digest and their place stand for them
    read = partial(thumbnail_of, dictionary, concept, place)
    content = await asyncio.to_thread(read)
    tag = f'"{dictionary.digest[:32]}.{id_}.{int(place)}"'
    if _has(request, tag):
        return _unchanged(tag)
    return Response(content, media_type="image/jpeg", headers=_caching(tag))


def _asked(request: Request) -> tuple[Dictionary, int]:
    """The dictionary and the concept that a path is about."""
    asked = read_query(request.query_params, DictionaryQuery)
    dictionary = core_of(request).dictionaries.find(asked.dictionary)
    return dictionary, concept_at(dictionary, request.path_params["id"])


def _answer(answer: object, tag: str) -> Response:
    return Response(json_bytes(answer), media_type="application/json", headers=_caching(tag))


def _unchanged(tag: str) -> Response:
    return Response(status_code=304, headers=_caching(tag))


def _caching(tag: str) -> dict[str, str]:
    """A client may keep the answer, and must ask whether it still holds."""
    return {"ETag": tag, "Cache-Control": "private, no-cache"}


def _list_tag(dictionary: Dictionary, revision: int) -> str:
    # all that lists say is in the artifact and the layer
    return f'"{dictionary.digest[:32]}.{revision}"'


def _has(request: Request, tag: str) -> bool:
    """Whether the client says that it has this very answer."""
    given = request.headers.get("if-none-match", "")
    tags = {each.strip().removeprefix("W/") for each in given.split(",")}
    return not tags.isdisjoint({"*", tag})
