"""Concepts, comparisons, translations and heat as koine.v1's messages; computes none of them."""

from __future__ import annotations

from collections.abc import Sequence

from koine.concepts import Concept
from koine.errors import KoineError, RequestError
from koine.finding import Found
from koine.proto.koine.v1 import concepts_pb2 as pb
from service.call import Encoded
from service.compare import Compared, Pair, Valued
from service.concepts import Page
from service.localise import Shown
from service.rpc.status import error_message
from service.translate import Translations


def checked_streams(streams: Sequence[str]) -> list[str] | None:
    """Streams to compare, None for all that fit. Raises `RequestError` for a single one."""
    if len(streams) == 1:
        raise RequestError(f"`streams` has {streams[0]!r} alone; name two or more, or none")
    return list(streams) or None


def compare_response(
    encoded: Encoded, ids: Sequence[str], compared: Sequence[Compared]
) -> pb.CompareResponse:
    """The pairs of each item, or its error."""
    response = pb.CompareResponse(dictionary=encoded.dictionary.title)
    for id_, result in zip(ids, compared, strict=True):
        item = response.results.add(id=id_)
        if isinstance(result, KoineError):
            item.error.CopyFrom(error_message(result))
            continue
        for name, pair in result.items():
            item.pairs[name].CopyFrom(_pair(pair))
    return response


def _pair(pair: Pair) -> pb.Pair:
    message = pb.Pair(
        shared=[_valued(valued) for valued in pair.shared],
        only_a=[_valued(valued) for valued in pair.only_a],
        only_b=[_valued(valued) for valued in pair.only_b],
    )
    if pair.jaccard is not None:
        message.jaccard = pair.jaccard
    return message


def _valued(valued: Valued) -> pb.Concept:
    message = _concept(valued.concept)
    message.value = valued.value
    return message


def _concept(concept: Concept) -> pb.Concept:
    return pb.Concept(
        id=concept.id,
        label=concept.label,
        status=concept.status,
        score=concept.score,
        rate=concept.rate,
    )


def translate_response(translations: Translations, ids: Sequence[str]) -> pb.TranslateResponse:
    """Each item's translations by the stream that they are from, or its error."""
    response = pb.TranslateResponse(dictionary=translations.encoded.dictionary.title)
    for id_, result in zip(ids, translations.results, strict=True):
        item = response.results.add(id=id_)
        if isinstance(result, KoineError):
            item.error.CopyFrom(error_message(result))
            continue
        from_ = getattr(item, "from")  # a keyword in Python
        for name, (acts_D, expected_fvu) in result.items():
            from_[name].activations.extend(acts_D.tolist())
            if expected_fvu is not None:
                from_[name].expected_fvu = expected_fvu
    return response


def localize_response(shown: Shown) -> pb.LocalizeResponse:
    """A concept's heat, and how the concept was found."""
    width, height = shown.size
    grid_GG = shown.localised.grid_GG
    return pb.LocalizeResponse(
        dictionary=shown.dictionary.title,
        concept=_concept(shown.concept),
        resolved=_resolved(shown.found),
        stream=shown.stream,
        width=width,
        height=height,
        grid=pb.Grid(side=len(grid_GG), heat=grid_GG.ravel().tolist(), box=shown.localised.box),
        overlay=shown.overlay,
    )


def _resolved(found: Found | None) -> pb.Resolved:
    if found is None:
        return pb.Resolved(by="id")
    matches = [
        pb.Match(concept=match.concept.id, label=match.concept.label, score=match.score)
        for match in found.matches
    ]
    return pb.Resolved(
        by=found.by, score=found.score, stream=found.stream, floor=found.floor, matches=matches
    )


def concepts_response(dictionary: str, page: Page) -> pb.ListConceptsResponse:
    """A page of concepts; `next` is empty on the last."""
    return pb.ListConceptsResponse(
        dictionary=dictionary,
        concepts=[_concept(concept) for concept in page.concepts],
        next=page.next or "",
    )
