"""Bodies of `/v1/localize` to what is wanted: JSON, multipart and raw images; decodes none."""

from __future__ import annotations

from collections.abc import Mapping

from koine.errors import RequestError
from service.localise import Wanted
from service.multipart import read_parts
from service.reading import read_object, read_query
from service.schemas import LocalizeOptions, LocalizeRequest


def read_json(body: bytes) -> Wanted:
    """A JSON body. Raises `RequestError`."""
    asked = read_object(body, LocalizeRequest)
    return _wanted(asked.image, asked)


def read_raw(body: bytes, query: Mapping[str, str]) -> Wanted:
    """An image file as the whole body, the rest in the query. Raises `RequestError`."""
    return _wanted(body, read_query(query, LocalizeOptions))


def read_form(content_type: str, body: bytes, query: Mapping[str, str]) -> Wanted:
    """One image part; the rest as parts of their own or in the query. Raises `RequestError`."""
    images: list[bytes] = []
    given = dict(query)
    for part in read_parts(content_type, body):
        if part.name == "image" or part.is_file:
            images.append(part.data)
            continue
        if part.name in given:
            raise RequestError(f"`{part.name[:64]}` is given twice; give it once")
        given[part.name] = part.text
    if len(images) != 1:
        raise RequestError(f"the form has {len(images)} images; send one as `image`")
    return _wanted(images[0], read_query(given, LocalizeOptions))


def _wanted(image: str | bytes, asked: LocalizeOptions) -> Wanted:
    return Wanted(
        image=image,
        concept=asked.concept,
        text=asked.text,
        stream=asked.stream,
        dictionary=asked.dictionary,
    )
