"""koine.v1's messages to items and options, and answers back; encodes nothing.

What makes a single item unusable becomes that item's error, as over HTTP.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from koine.codes import PAD
from koine.errors import ActivationsError, KoineError, RequestError
from koine.proto.koine.v1 import concepts_pb2 as pb
from service.answers import packed_rows, stacked
from service.call import Encoded
from service.jobs import Item, Row
from service.reading import NOTHING, check_count, checked_options
from service.rpc.status import error_message
from service.schemas import Options
from service.timings import Timings

MAX_ID_CHARS = 256
_ENCODING = {pb.LISTS: "json", pb.PACKED: "packed"}
_MODE = {pb.INDEPENDENT: "independent", pb.JOINT: "joint"}


def read_options(request: pb.EncodeRequest) -> Options:
    """How to encode. Raises `RequestError`."""
    values: dict[str, Any] = {
        "mode": _named("mode", request.mode, _MODE, pb.Mode),
        "encoding": _named("encoding", request.encoding, _ENCODING, pb.Encoding),
        "names": request.names,
    }
    if request.streams:
        values["streams"] = list(request.streams)
    if request.HasField("top_k"):
        values["top_k"] = request.top_k
    if request.HasField("dictionary"):
        values["dictionary"] = request.dictionary
    return checked_options(values)


def _named(field: str, number: int, names: dict[Any, str], kind: Any) -> str:
    if number not in names:  # proto3's enums are open
        known = ", ".join(f"{name} ({value})" for name, value in kind.items())
        raise RequestError(f"`{field}` must be one of {known}, got {number}")
    return names[number]


def read_items(inputs: Sequence[pb.Item], max_items: int) -> list[Item]:
    """An item for each input, in order. Raises `RequestError`, `TooLargeError`."""
    if not inputs:
        raise RequestError("the request has no `inputs`; send at least one")
    check_count(len(inputs), max_items)
    return [_item(str(n), item) for n, item in enumerate(inputs)]


def _item(position: str, item: pb.Item) -> Item:
    id_ = item.id if item.HasField("id") else position
    if len(id_) > MAX_ID_CHARS:
        return Item(
            id=position,
            error=RequestError(
                f"the item is not as expected: `id`: String should have at most {MAX_ID_CHARS} "
                f"characters, got {reprlib.repr(id_)}"
            ),
        )
    image = item.image if item.HasField("image") else None
    text = item.text if item.HasField("text") else None
    if image is None and text is None and not item.activations:
        return Item(id=id_, error=RequestError(NOTHING))
    try:
        activations = {name: _floats(name, sent) for name, sent in item.activations.items()}
    except ActivationsError as error:
        return Item(id=id_, error=error)
    return Item(id=id_, image=image, text=text, activations=activations)


def _floats(name: str, sent: pb.Activations) -> np.ndarray:
    count, raw = len(sent.values), sent.raw
    if not count:
        if len(raw) % 4:
            raise ActivationsError(
                f"`raw` of stream `{name[:64]}` has {len(raw)} bytes, which are no little-endian "
                "float32; send 4 bytes for each number"
            )
        return np.frombuffer(raw, "<f4")
    if raw:
        raise ActivationsError(
            f"stream `{name[:64]}` has both `values` and `raw`; send one of them"
        )
    # the wire form of `values` alone ends with the numbers, and is there 25 times as fast as a list
    sent.DiscardUnknownFields()  # pyright: ignore[reportAttributeAccessIssue]
    return np.frombuffer(sent.SerializeToString(), np.uint8)[-4 * count :].view("<f4")


def encode_response(
    encoded: Encoded, ids: Sequence[str], options: Options, request_id: str
) -> pb.EncodeResponse:
    """The whole answer, without its timings."""
    response = pb.EncodeResponse(dictionary=encoded.dictionary.title, request_id=request_id)
    rows: dict[str, list[tuple[Any, Row]]] = {
        name: [] for name in encoded.dictionary.encoder.streams
    }
    for id_, answer in zip(ids, encoded.answers, strict=True):
        result = response.results.add(id=id_)
        if isinstance(answer, KoineError):
            result.error.CopyFrom(error_message(answer))
            continue
        for name, row in answer.items():
            rows[name].append((result.codes[name], row))
    for several in rows.values():
        if several:
            _write_rows(several, encoded, options)
    return response


def _write_rows(several: Sequence[tuple[Any, Row]], encoded: Encoded, options: Options) -> None:
    """Codes of many items in one stream: one numpy call for all instead of one for each."""
    indices_NK, values_NK = stacked([row for _, row in several], options.top_k)
    active_N: list[int] = (indices_NK != PAD).sum(1).tolist()
    for codes, row in several:
        if math.isfinite(row.fvu):
            codes.fvu = row.fvu
    if options.encoding == "packed":
        packed = packed_rows(indices_NK, values_NK, encoded.dictionary.encoder.num_concepts)
        for (codes, _), data in zip(several, packed, strict=True):
            codes.packed = data
    else:
        listed = zip(several, indices_NK.tolist(), values_NK.tolist(), active_N, strict=True)
        for (codes, _), indices, values, active in listed:  # pads stand at a row's end
            codes.indices.extend(indices[:active])
            codes.values.extend(values[:active])
    if options.names:
        labels = encoded.dictionary.labels
        for (codes, _), indices_K, active in zip(several, indices_NK, active_N, strict=True):
            for concept in indices_K[:active].tolist():
                codes.names.add(label=labels.get(concept))


def timings_message(timings: Timings) -> pb.Timings:
    """The same in milliseconds."""
    return pb.Timings(
        read=timings.read * 1000,
        decode=timings.decode * 1000,
        queue=timings.queue * 1000,
        forward=timings.forward * 1000,
        total=timings.total * 1000,
    )
