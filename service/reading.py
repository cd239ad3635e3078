"""Bodies to items and options: JSON, multipart and raw images; encodes nothing.

What makes a single item unusable becomes that item's error; only a body that is unreadable as a
whole raises.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import numpy as np
from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json

from koine.errors import RequestError, TooLargeError
from service.jobs import Item
from service.multipart import read_parts
from service.schemas import EncodeEnvelope, InputItem, Options

NOTHING = "the item has nothing to encode; give it `image`, `text` or `activations`"
_PART = re.compile(r"(image|text)(?:\[(.{1,256})\])?", re.DOTALL)


class Asked(NamedTuple):
    """One request, read."""

    items: list[Item]
    options: Options


def read_json(body: bytes, max_items: int) -> Asked:
    """A JSON body. Raises `RequestError`, `TooLargeError`."""
    try:
        data: Any = from_json(body)  # NaN is read, so that it costs one item, not the request
    except ValueError as error:
        raise RequestError(f"the body is not JSON: {error}; send a JSON object") from None
    try:
        envelope = EncodeEnvelope.model_validate(data)
    except ValidationError as error:
        raise RequestError(f"the body is not as expected: {_faults(error)}") from None
    check_count(len(envelope.inputs), max_items)
    items = [_json_item(str(n), value) for n, value in enumerate(envelope.inputs)]
    return Asked(items, envelope)


def _json_item(position: str, value: Any) -> Item:
    try:
        item = InputItem.model_validate(value)
    except ValidationError as error:
        given = cast("dict[str, Any]", value).get("id") if isinstance(value, dict) else None
        id_ = given if isinstance(given, str) and len(given) <= 256 else position
        return Item(id=id_, error=RequestError(f"the item is not as expected: {_faults(error)}"))
    id_ = position if item.id is None else item.id
    if item.image is None and item.text is None and not item.activations:
        return Item(id=id_, error=RequestError(NOTHING))
    activations = {n: np.asarray(v, np.float64) for n, v in (item.activations or {}).items()}
    return Item(id=id_, image=item.image, text=item.text, activations=activations)


def read_raw(body: bytes, query: Mapping[str, str]) -> Asked:
    """One image file as the whole body, options in the query. Raises `RequestError`."""
    return Asked([Item(id="0", image=body)], read_options(query))


def read_form(content_type: str, body: bytes, query: Mapping[str, str], max_items: int) -> Asked:
    """Image and text parts; options as parts of their own or in the query.

    `image` and `text` parts are items, numbered; `image[ID]` and `text[ID]` with the same ID are
    one item of that id. Any other part with a file name is an image. Raises `RequestError`,
    `TooLargeError`.
    """
    items: dict[str, dict[str, Any]] = {}
    options: dict[str, str] = dict(query)
    for part in read_parts(content_type, body):
        match = _PART.fullmatch(part.name)
        if match is None and not part.is_file:
            if part.name in options:
                raise RequestError(f"the option `{part.name}` is given twice; give it once")
            options[part.name] = part.text
            continue
        kind, id_ = (match[1], match[2]) if match else ("image", None)
        key = f"{len(items)}" if id_ is None else f"[{id_}"
        item = items.setdefault(key, {"id": id_ or f"{len(items)}"})
        if kind in item:
            raise RequestError(f"the part `{part.name}` is given twice; give each item its own ID")
        item[kind] = part.data if kind == "image" else part.text
        check_count(len(items), max_items)
    if not items:
        raise RequestError("the form has no `image` and no `text` part; send at least one")
    return Asked([Item(**item) for item in items.values()], read_options(options))


def read_options(given: Mapping[str, str]) -> Options:
    """Options from text: `streams` is a list with commas. Raises `RequestError`."""
    values: dict[str, Any] = dict(given)
    if "streams" in given:
        values["streams"] = [name.strip() for name in given["streams"].split(",")]
    if (top_k := given.get("top_k", "")).isascii() and top_k.isdigit() and len(top_k) < 10:
        values["top_k"] = int(top_k)
    return checked_options(values)


def checked_options(values: Mapping[str, Any]) -> Options:
    """The options, if they are ones. Raises `RequestError`."""
    try:
        return Options.model_validate(values)
    except ValidationError as error:
        raise RequestError(f"the options are not as expected: {_faults(error)}") from None


def check_count(items: int, max_items: int) -> None:
    """Raises `TooLargeError`."""
    if items > max_items:
        raise TooLargeError(
            f"the request has {items} items or more, the limit is {max_items}; split it"
        )


def _faults(error: ValidationError) -> str:
    """The first faults, where they are and what was got, without echoing long input."""
    faults = error.errors(include_url=False, include_context=False)
    told = [_fault(fault) for fault in faults[:3]]
    more = [f"and {len(faults) - 3} more"] if len(faults) > 3 else []
    return "; ".join(told + more)


def _fault(fault: ErrorDetails) -> str:
    place = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "model_type":
        return f"it must be an object, got {reprlib.repr(fault['input'])}"
    if fault["type"] == "extra_forbidden":
        return f"unknown key `{place}`"
    if fault["type"] == "missing":
        return f"`{place}` is missing"
    return f"`{place}`: {fault['msg']}, got {reprlib.repr(fault['input'])}"
