"""Where in an image a concept lies: one request in the slow lane; knows no HTTP."""

from __future__ import annotations

import asyncio
import io
import time
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from koine.concepts import Concept
from koine.errors import KoineError, OverloadedError, RequestError, TextError
from koine.finding import Found
from koine.images import decode_image, preprocess_image
from koine.localisation import Localised, check_concept, overlay
from service import metrics, telemetry
from service.contents import contents_of
from service.core import Core
from service.deadline import within
from service.dictionary import Dictionary
from service.jobs import Item, image_bytes
from service.timings import Timings


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a client wants to see, and where."""

    image: str | bytes
    """A file's bytes, or those bytes in base64."""
    concept: int | None = None
    text: str | None = None
    stream: str | None = None
    """None for the first that has a localiser."""
    dictionary: str | None = None


class Shown(NamedTuple):
    """A concept's heat over one image."""

    dictionary: Dictionary
    concept: Concept
    found: Found | None
    """How the text was resolved; None where the concept was asked for by its id."""
    stream: str
    localised: Localised
    size: tuple[int, int]
    """Width and height of the upright image."""
    overlay: bytes
    """The image under its heat, as PNG."""
    timings: Timings


async def localise(core: Core, wanted: Wanted, timeout_s: float | None = None) -> Shown:
    """Where in the image the concept lies.

    Raises `RequestError` for neither or both of concept and text, `UnknownConceptError`,
    `UnknownStreamError`, `ImageError`, `InputError` for a stream without localiser,
    `OverloadedError`, `DeadlineError`, and `AuditError` where it cannot be recorded.
    """
    check_wanted(wanted, core.settings.max_text_chars)
    limit_s = core.settings.timeout_s
    timeout_s = limit_s if timeout_s is None else min(timeout_s, limit_s)
    telemetry.note(items=1)
    with core.dictionaries.find(wanted.dictionary).in_use() as dictionary:
        telemetry.note(dictionary=dictionary.title)
        start = time.perf_counter()
        answer: Shown | KoineError
        try:
            async with within(timeout_s, "wait longer"):
                concepts = (await dictionary.book.current()).concepts
                asked = time.perf_counter()
                work = partial(
                    _shown, dictionary, wanted, concepts, core.settings.max_pixels, asked
                )
                answer = await dictionary.lane.run(work)
        except KoineError as error:
            answer = error
        outcome = "error" if isinstance(answer, KoineError) else "ok"
        metrics.ITEMS.labels("image", outcome).inc()
        if not isinstance(answer, OverloadedError):  # turned away unread, and cheaply
            await _record(core, dictionary, wanted, answer, time.perf_counter() - start)
    if isinstance(answer, KoineError):
        raise answer
    telemetry.note(timings=answer.timings)
    return answer


async def _record(
    core: Core, dictionary: Dictionary, wanted: Wanted, answer: Shown | KoineError, seconds: float
) -> None:
    """Of an answer the audit log keeps what was asked about, no codes: heat has none."""
    if core.audit is None:
        return
    item = Item(id="0", image=wanted.image, text=wanted.text)
    contents = await asyncio.to_thread(contents_of, item)
    await core.audit.encoded(
        dictionary.digest,
        list(dictionary.encoder.streams),
        "independent",
        [contents],
        [answer if isinstance(answer, KoineError) else {}],
        seconds,
    )


def check_wanted(wanted: Wanted, max_chars: int) -> None:
    """Raises `RequestError` for neither or both of concept and text, `TextError` for a long one."""
    if (wanted.concept is None) == (wanted.text is None):
        what = "neither" if wanted.concept is None else "both"
        raise RequestError(f"give `concept` (an id) or `text`; the request has {what}")
    if wanted.text is not None and not wanted.text.strip():
        raise TextError("`text` is empty; say what to look for")
    if len(wanted.text or "") > max_chars:
        raise TextError(
            f"the text has {len(wanted.text or '')} characters, the limit is {max_chars}; "
            "shorten it"
        )


def _shown(
    dictionary: Dictionary,
    wanted: Wanted,
    concepts: list[Concept],
    max_pixels: int,
    asked: float,
) -> Shown:
    """The work of the lane's thread; `asked` is when it was queued."""
    began, localisers = time.perf_counter(), dictionary.localisers
    stream = localisers.choose(wanted.stream)
    found: Found | None = None
    if wanted.concept is not None:
        check_concept(wanted.concept, len(concepts))
        concept = concepts[wanted.concept]
    else:
        found = dictionary.finder.find(wanted.text or "", concepts, stream)
        concept = found.concept
    image = decode_image(image_bytes(wanted.image), max_pixels=max_pixels)
    pixels_HWC = preprocess_image(image, localisers.spec(stream))
    ready = time.perf_counter()
    patches_NPD = localisers.patches(stream, pixels_HWC[None])
    done = time.perf_counter()
    localised = localisers.localise(stream, patches_NPD[0], concept.id, image.size)
    file = io.BytesIO()
    overlay(image, localised.heat_HW).save(file, "PNG", compress_level=1)
    timings = Timings(decode=ready - began, queue=began - asked, forward=done - ready)
    return Shown(
        dictionary, concept, found, stream, localised, image.size, file.getvalue(), timings
    )
