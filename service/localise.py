"""Where in an image a concept lies, by its id or by a text; knows no HTTP."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple

from koine.errors import InputError, KoineError, RequestError, TextError, UnknownConceptError
from koine.finding import Found, find_concept, find_in_codes
from koine.localisation import Box, GridGG, check_concept, seen, shown_size
from service import jobs, telemetry
from service.call import Call
from service.core import Core
from service.dictionary import Dictionary
from service.jobs import Item
from service.places import Places
from service.schemas import Options
from service.timings import Timings


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is looked for, and in which image."""

    image: str | bytes
    """A file's bytes, or those bytes in base64."""
    concept: int | None = None
    text: str | None = None
    stream: str | None = None
    """None: the first that can be localised in."""
    dictionary: str | None = None

    def __post_init__(self) -> None:
        if (self.concept is None) == (self.text is None):
            raise RequestError("give either `concept`, an id, or `text`, and not both")


class Localisation(NamedTuple):
    """A concept's heat over one image."""

    dictionary: str
    found: Found
    stream: str
    size: tuple[int, int]
    """Width and height of the overlay."""
    seen: Box
    """What the encoder saw of it; the grid lies over this box."""
    grid_GG: GridGG
    overlay: bytes
    """PNG."""
    timings: Timings


async def localise(core: Core, ask: Ask, timeout_s: float | None = None) -> Localisation:
    """The heat of what `ask` looks for.

    Raises `UnknownConceptError`, `UnknownStreamError`, `InputError` for a stream without a
    localiser, `ImageError`, `TextError`, `OverloadedError`, `DeadlineError`.
    """
    timings = Timings()
    telemetry.note(items=1, timings=timings)
    with core.dictionaries.find(ask.dictionary).in_use() as dictionary:
        telemetry.note(dictionary=dictionary.title)
        async with core.deadline(timeout_s) as within_s:
            stream = _stream(dictionary, ask.stream)
            found = await _found(core, dictionary, ask, stream, within_s)
            places = await dictionary.localising.place(within_s)
            try:
                return await _looked(dictionary, ask.image, stream, found, places, timings)
            finally:
                places.release()


async def _looked(
    dictionary: Dictionary,
    image: str | bytes,
    stream: str,
    found: Found,
    places: Places,
    timings: Timings,
) -> Localisation:
    queue = dictionary.localising
    start = time.perf_counter()
    ready = await queue.decoded(image, stream)
    timings.decode = time.perf_counter() - start
    patches_PD = await queue.patches(ready, stream, places, timings)
    grid_GG = queue.localisers.grid(stream, patches_PD, found.concept.id)
    return Localisation(
        dictionary.title,
        found,
        stream,
        shown_size(ready.size),
        seen(ready.size, queue.localisers.spec(stream)),
        grid_GG,
        await queue.drawn(ready, stream, grid_GG),
        timings,
    )


def _stream(dictionary: Dictionary, wanted: str | None) -> str:
    able = dictionary.localising.localisers.streams
    if wanted is None:
        if not able:
            raise InputError(
                f"no stream of {dictionary.title} can be localised in: it was exported without "
                "`--localisers`, or from encoders whose pooling does not split over patches"
            )
        return able[0]
    dictionary.localising.localisers.spec(wanted)
    return wanted


async def _found(
    core: Core, dictionary: Dictionary, ask: Ask, stream: str, within_s: float
) -> Found:
    concepts = dictionary.concepts
    if ask.concept is not None:
        check_concept(ask.concept, len(concepts))
        return Found(concepts[ask.concept], "id")
    text, limit = ask.text or "", core.settings.max_text_chars
    if not text.strip() or len(text) > limit:
        raise TextError(f"the text has {len(text)} characters; send 1 to {limit} that are no space")
    try:
        return Found(find_concept(text, concepts, stream), "label")
    except UnknownConceptError:
        source = _text_stream(dictionary)
        if source is None:
            raise
    name, floor = source
    options = Options(streams=[name], dictionary=dictionary.title)
    call = Call(items=[Item(id="0", text=text)], options=options, timeout_s=within_s)
    (answer,) = (await core.encode(call)).answers
    if isinstance(answer, KoineError):
        raise answer
    row = answer[name]
    return find_in_codes(text, concepts, stream, (row.indices_K, row.values_K), floor)


def _text_stream(dictionary: Dictionary) -> tuple[str, float] | None:
    """The first that reads texts here and whose nonsense was measured, and that figure."""
    for stream in dictionary.encoder.artifact.manifest.streams:
        name, value = stream.spec.name, stream.nonsense_value
        if value is not None and jobs.readable(dictionary.encoder, name):
            return name, value
    return None
