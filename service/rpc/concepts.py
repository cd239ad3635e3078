"""koine.v1.ConceptService's methods, each a function of one message; knows no socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import grpc
from google.protobuf.message import Message

from koine.errors import KoineError
from koine.proto.koine.v1 import concepts_pb2 as pb
from service import metrics
from service.call import Call
from service.cards import card_of, change_label
from service.compare import compare, encode_to_compare
from service.concepts import concept_at, find_concepts
from service.core import Core
from service.jobs import Item
from service.localise import Wanted, check_wanted, localise
from service.rpc.card_messages import card_message, read_edit, read_query
from service.rpc.concept_messages import (
    checked_streams,
    compare_response,
    concepts_response,
    localize_response,
    translate_response,
)
from service.rpc.edge import TIMINGS_TRAILER, Edge, Handler, Rpc
from service.rpc.messages import encode_response, read_items, read_options, timings_message
from service.rpc.status import error_message
from service.translate import translate

SERVICE: str = pb.DESCRIPTOR.services_by_name["ConceptService"].full_name
INLINE_ITEMS = 64
"""Answers up to this many items are written in the event loop; that takes about a millisecond."""


def handlers(core: Core, edge: Edge) -> grpc.GenericRpcHandler:
    """The service."""
    return grpc.method_handlers_generic_handler(SERVICE, methods(core, edge))


def methods(core: Core, edge: Edge) -> dict[str, Handler]:
    """A handler for each method of the definition."""
    concepts = Concepts(core)
    route = f"/{SERVICE}/"
    return {
        "Encode": edge.unary(route + "Encode", pb.EncodeRequest, concepts.encode, "encode"),
        "EncodeStream": edge.stream(
            route + "EncodeStream", pb.EncodeRequest, concepts.encode_one, "encode", _failed
        ),
        "Compare": edge.unary(route + "Compare", pb.CompareRequest, concepts.compare, "encode"),
        "Translate": edge.unary(
            route + "Translate", pb.TranslateRequest, concepts.translate, "encode"
        ),
        "Localize": edge.unary(route + "Localize", pb.LocalizeRequest, concepts.localise, "encode"),
        "ListConcepts": edge.unary(
            route + "ListConcepts", pb.ListConceptsRequest, concepts.list_concepts, "read"
        ),
        "GetConcept": edge.unary(
            route + "GetConcept", pb.GetConceptRequest, concepts.get_concept, "read"
        ),
        "UpdateConcept": edge.unary(
            route + "UpdateConcept", pb.UpdateConceptRequest, concepts.update_concept, "label"
        ),
    }


class Concepts:
    """What the methods do."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def encode(self, request: pb.EncodeRequest, rpc: Rpc) -> pb.EncodeResponse:
        """Items in, codes or an error for each out; the timings in the trailers too."""
        response, header = await self._encoded(request, rpc)
        rpc.context.set_trailing_metadata(((TIMINGS_TRAILER, header),))
        return response

    async def encode_one(self, request: pb.EncodeRequest, rpc: Rpc) -> pb.EncodeResponse:
        """The same for one request of a stream."""
        response, _ = await self._encoded(request, rpc)
        return response

    async def _encoded(self, request: pb.EncodeRequest, rpc: Rpc) -> tuple[pb.EncodeResponse, str]:
        start = time.perf_counter()
        items = read_items(request.inputs, self._core.settings.max_items)
        options = read_options(request)
        read_s = time.perf_counter() - start
        rpc.spend(len(items))
        call = Call(items=items, options=options, timeout_s=rpc.timeout_s)
        encoded = await self._core.encode(call)
        start = time.perf_counter()
        ids = [item.id for item in items]
        writing = (encode_response, encoded, ids, options, request.request_id)
        if len(items) > INLINE_ITEMS:
            response = await asyncio.to_thread(*writing)
        else:
            response = encode_response(*writing[1:])
        metrics.STAGE_SECONDS.labels("answer").observe(time.perf_counter() - start)
        timings = rpc.timed(encoded.timings, read_s)
        response.timings.CopyFrom(timings_message(timings))
        return response, timings.header()

    async def compare(self, request: pb.CompareRequest, rpc: Rpc) -> pb.CompareResponse:
        """Where the streams of each item agree, and about what."""
        items = self._read(request.inputs, rpc)
        encoded = await encode_to_compare(
            self._core,
            items,
            streams=checked_streams(request.streams),
            dictionary=_given(request, "dictionary"),
            timeout_s=rpc.timeout_s,
        )
        ids = [item.id for item in items]
        return await asyncio.to_thread(lambda: compare_response(encoded, ids, compare(encoded)))

    async def translate(self, request: pb.TranslateRequest, rpc: Rpc) -> pb.TranslateResponse:
        """What the encoder of another stream would have computed."""
        items = self._read(request.inputs, rpc)
        translated = await translate(
            self._core,
            items,
            request.to,
            dictionary=_given(request, "dictionary"),
            timeout_s=rpc.timeout_s,
        )
        return translate_response(translated, [item.id for item in items])

    async def localise(self, request: pb.LocalizeRequest, rpc: Rpc) -> pb.LocalizeResponse:
        """Where in the image the concept lies."""
        wanted = Wanted(
            image=request.image,
            concept=request.concept if request.HasField("concept") else None,
            text=_given(request, "text"),
            stream=_given(request, "stream"),
            dictionary=_given(request, "dictionary"),
        )
        check_wanted(wanted, self._core.settings.max_text_chars)
        rpc.spend(1)
        return localize_response(await localise(self._core, wanted, rpc.timeout_s))

    async def list_concepts(
        self, request: pb.ListConceptsRequest, rpc: Rpc
    ) -> pb.ListConceptsResponse:
        """A page of concepts."""
        dictionary = self._core.dictionaries.find(_given(request, "dictionary"))
        query = read_query(request)
        await dictionary.book.current()
        page = await asyncio.to_thread(find_concepts, dictionary, query)
        return concepts_response(dictionary.title, page)

    async def get_concept(self, request: pb.GetConceptRequest, rpc: Rpc) -> pb.ConceptCard:
        """All that is known of one concept."""
        dictionary = self._core.dictionaries.find(_given(request, "dictionary"))
        return card_message(await card_of(dictionary, concept_at(dictionary, str(request.id))))

    async def update_concept(self, request: pb.UpdateConceptRequest, rpc: Rpc) -> pb.ConceptCard:
        """The card after its label was changed."""
        dictionary = self._core.dictionaries.find(_given(request, "dictionary"))
        id_ = concept_at(dictionary, str(request.id))
        card = await change_label(dictionary, read_edit(id_, request), request.etag, rpc.person)
        return card_message(card)

    def _read(self, inputs: Sequence[pb.Item], rpc: Rpc) -> list[Item]:
        items = read_items(inputs, self._core.settings.max_items)
        rpc.spend(len(items))
        return items


def _given(request: Message, field: str) -> str | None:
    return getattr(request, field) if request.HasField(field) else None


def _failed(request: pb.EncodeRequest | None, error: KoineError) -> pb.EncodeResponse:
    request_id = "" if request is None else request.request_id
    return pb.EncodeResponse(request_id=request_id, error=error_message(error))
