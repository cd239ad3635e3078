"""Bodies to items and options: JSON, multipart and raw images; encodes nothing.

What makes a single item unusable becomes that item's error; only a body that is unreadable as a
whole raises.
"""

from __future__ import annotations

import binascii
import re
import reprlib
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from jaxtyping import Float32
from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json

from koine.errors import ActivationsError, RequestError, TooLargeError
from service.jobs import Item
from service.multipart import read_parts
from service.schemas import BASE64, NUMBERS, Body, EncodeEnvelope, InputItem, Options

B = TypeVar("B", bound=Body)

NOTHING = "the item has nothing to encode; give it `image`, `text` or `activations`"
_SHARE = re.compile(r"[0-9]{0,20}\.?[0-9]{0,20}(?:e-?[0-9]{1,3})?(?<=[0-9.])")
_SWITCH = {"true": True, "1": True, "false": False, "0": False}
_PART = re.compile(r"(image|text)(?:\[(.{1,256})\])?", re.DOTALL)


class Asked(NamedTuple):
    """One request, read."""

    items: list[Item]
    options: Options


def read_json(body: bytes, max_items: int) -> Asked:
    """A JSON body. Raises `RequestError`, `TooLargeError`."""
    envelope = read_object(body, EncodeEnvelope)
    return Asked(read_items(envelope.inputs, max_items), envelope)


def read_object(body: bytes, model: type[B]) -> B:
    """A JSON body as `model`. Raises `RequestError`."""
    try:
        data: Any = from_json(body)  # NaN is read, so that it costs one item, not the request
    except ValueError as error:
        raise RequestError(f"the body is not JSON: {error}; send a JSON object") from None
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise RequestError(f"the body is not as expected: {_faults(error)}") from None


def read_items(inputs: list[Any], max_items: int) -> list[Item]:
    """The items, numbered where they have no id. Raises `TooLargeError`."""
    check_count(len(inputs), max_items)
    return [read_item(str(n), value) for n, value in enumerate(inputs)]


def read_item(position: str, value: Any) -> Item:
    """One item as JSON has it; what is wrong with it is its error."""
    try:
        item = InputItem.model_validate(value)
    except ValidationError as error:
        given = cast("dict[str, Any]", value).get("id") if isinstance(value, dict) else None
        id_ = given if isinstance(given, str) and len(given) <= 256 else position
        return Item(id=id_, error=RequestError(f"the item is not as expected: {_faults(error)}"))
    id_ = position if item.id is None else item.id
    if item.image is None and item.text is None and not item.activations:
        return Item(id=id_, error=RequestError(NOTHING))
    try:
        activations = {name: _read(v, name) for name, v in (item.activations or {}).items()}
    except ActivationsError as error:
        return Item(id=id_, error=error)
    return Item(id=id_, image=item.image, text=item.text, activations=activations)


def _read(values: list[float] | str, name: str) -> Float32[np.ndarray, "D"]:
    """The activations, infinite where they are beyond float32."""
    if isinstance(values, list):
        with np.errstate(over="ignore"):
            return np.asarray(values, np.float32)
    try:
        raw = binascii.a2b_base64(values, strict_mode=True)
    except (binascii.Error, ValueError):
        raise ActivationsError(
            f"the activations of stream `{name}` must be numbers, or little-endian float32 in "
            f"base64; got {len(values)} characters that are no base64"
        ) from None
    if len(raw) % 4:
        raise ActivationsError(
            f"the activations of stream `{name}` are {len(raw)} bytes in base64, which is no "
            "whole number of float32; encode little-endian float32"
        )
    return np.frombuffer(raw, "<f4").astype(np.float32, copy=False)


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
    values = _with_whole_number(given, "top_k")
    if "streams" in given:
        values["streams"] = [name.strip() for name in given["streams"].split(",")]
    return checked_options(values)


def read_query(given: Mapping[str, str], model: type[B]) -> B:
    """A request's query as `model`. Raises `RequestError`."""
    try:
        values: dict[str, Any] = dict(given)
        for name in ("limit", "concept", "window_s", "history"):
            values = _with_whole_number(values, name)
        return model.model_validate(_with_numbers(values))
    except ValidationError as error:
        raise RequestError(f"the query is not as expected: {_faults(error)}") from None


def _with_whole_number(given: Mapping[str, Any], name: str) -> dict[str, Any]:
    values: dict[str, Any] = dict(given)
    if (text := given.get(name, "")).isascii() and text.isdigit() and len(text) < 10:
        values[name] = int(text)
    return values


def _with_numbers(values: dict[str, Any]) -> dict[str, Any]:
    """A query is text; what the model has as a share or a switch is read as one."""
    for name in ("min_rate", "min_score"):
        if name in values and _SHARE.fullmatch(values[name]):
            values[name] = float(values[name])
    if "evidence" in values:
        values["evidence"] = _SWITCH.get(values["evidence"], values["evidence"])
    return values


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
    place = ".".join(str(part) for part in fault["loc"] if part not in (NUMBERS, BASE64))
    if fault["type"] == "model_type":
        return f"it must be an object, got {reprlib.repr(fault['input'])}"
    if fault["type"] == "extra_forbidden":
        return f"unknown key `{place}`"
    if fault["type"] == "missing":
        return f"`{place}` is missing"
    return f"`{place}`: {fault['msg']}, got {reprlib.repr(fault['input'])}"
