"""All that is known of one concept, its version, and how a person changes it; knows no HTTP."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from koine.concepts import Concept
from koine.errors import ConflictError, PreconditionError, UnknownExemplarError
from koine.labels import Change, Edit, Shown
from service.dictionary import Dictionary

_TAG = re.compile(r'"([0-9a-f]{32})\.([0-9]{1,12})\.([0-9]{1,12})"')
_NONE_FITS = -1


class Card(NamedTuple):
    """A concept at one moment."""

    dictionary: Dictionary
    concept: Concept
    shown: Shown
    nearest: list[Concept]
    history: tuple[Change, ...]
    """Oldest first."""
    etag: str
    """Of all that the card shows: the digest, the concept's revision, and that of the newest
    label beside it."""


async def card_of(dictionary: Dictionary, id_: int) -> Card:
    """The card of a concept of this dictionary, with what other processes wrote."""
    labelled = await dictionary.book.current()
    concept = labelled.concepts[id_]
    nearest = [labelled.concepts[n] for n in concept.nearest if n < len(labelled.concepts)]
    shown = labelled.shown(concept)
    beside = max((labelled.shown(each).revision for each in nearest), default=0)
    etag = f'"{dictionary.digest[:32]}.{shown.revision}.{beside}"'
    return Card(dictionary, concept, shown, nearest, labelled.layer.history.get(id_, ()), etag)


async def change_label(
    dictionary: Dictionary, edit: Edit, if_match: str | None, person: str
) -> Card:
    """The concept's card after an edit of it.

    `if_match`: the ETag of the card that the person saw, or several, or `*`. Raises
    `PreconditionError` without one, `ConflictError` where the concept has changed since, and what
    `LabelBook.change` raises.
    """
    if if_match is None or not if_match.strip():
        raise PreconditionError(
            "say which state of the concept you saw, so that nobody's change is lost: send its "
            "`ETag` as `If-Match`"
        )
    expected = _expected(if_match, dictionary, (await card_of(dictionary, edit.concept)).shown)
    if expected == _NONE_FITS:
        raise ConflictError(
            f"{if_match[:128]} is no ETag of concept {edit.concept} of {dictionary.title} as it is "
            "served now; look at it again"
        )
    edit = Edit(
        concept=edit.concept, status=edit.status, label=edit.label, reason=edit.reason,
        expected=expected,
    )  # fmt: skip
    await dictionary.book.change(edit, person, dictionary.digest)
    return await card_of(dictionary, edit.concept)


def thumbnail_of(dictionary: Dictionary, concept: Concept, place: str) -> bytes:
    """The JPEG of a concept's exemplar, by its place in the card. Raises `UnknownExemplarError`,
    and `ArtifactError` for a damaged archive."""
    few = len(concept.exemplars)
    name = None
    if re.fullmatch(r"[0-9]{1,4}", place) and int(place) < few:
        name = concept.exemplars[int(place)].thumbnail
    if name is None or dictionary.exemplars is None:
        raise UnknownExemplarError(
            f"{place[:64]!r} is no picture of concept {concept.id} of {dictionary.title}; its "
            "card says which exemplars have a `thumbnail`"
        )
    return dictionary.exemplars.thumbnail(name)


def _expected(if_match: str, dictionary: Dictionary, shown: Shown) -> int | None:
    """The revision that the person saw; None where any will do."""
    if if_match.strip() == "*":
        return None
    seen = [
        int(tag[2])
        for tag in map(_TAG.fullmatch, (part.strip() for part in if_match.split(",")))
        if tag is not None and tag[1] == dictionary.digest[:32]
    ]
    if shown.revision in seen:
        return shown.revision
    return seen[0] if seen else _NONE_FITS


def concept_json(concept: Concept) -> dict[str, Any]:
    """One concept as every answer has it."""
    return {
        "id": concept.id,
        "label": concept.label,
        "status": concept.status,
        "score": concept.score,
        "rate": concept.rate,
    }


def card_json(card: Card) -> dict[str, Any]:
    """All that is known of one concept."""
    concept, shown = card.concept, card.shown
    path = f"/v1/concepts/{concept.id}/exemplars"
    pictures = card.dictionary.exemplars is not None
    exemplars = [
        {
            **each.model_dump(),
            "thumbnail": f"{path}/{n}" if pictures and each.thumbnail else None,
        }
        for n, each in enumerate(concept.exemplars)
    ]
    return {
        "dictionary": card.dictionary.title,
        **concept_json(concept),
        "source": concept.source,
        "purity": concept.purity,
        "proposed": shown.proposed,
        "evidence": [each.model_dump() for each in concept.evidence],
        "nearest": [{"id": c.id, "label": c.label, "status": c.status} for c in card.nearest],
        "exemplars": exemplars,
        "revision": shown.revision,
        "etag": card.etag,
        "history": [
            change.model_dump(mode="json", exclude={"until", "concept"}) for change in card.history
        ],
    }
