"""The things that are sent, made from a seed, and what carries them; knows no answers."""

from __future__ import annotations

import base64
import itertools
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32

from benchmarks.serving.load import Request
from benchmarks.serving.photos import broken, jpeg, photo
from koine.client.inputs import Resolved
from koine.client.wire_proto import ProtoWire
from koine.proto.koine.v1 import concepts_pb2 as pb

_SIZES = ("small", "medium", "large")
_COLOURS = ("red", "green", "blue", "yellow", "white", "black", "purple")
_SHAPES = ("square", "circle", "star", "heart", "tree", "arrow", "crescent")
_GROUNDS = ("grass", "bricks", "a gradient", "the lawn", "sand")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One thing to encode."""

    image: bytes | None = None
    text: str | None = None
    activations: Mapping[str, Float32[np.ndarray, "D"]] = field(default_factory=dict)
    broken: bool = False
    """Whether the right answer is an error."""

    def item(self, id_: str) -> dict[str, Any]:
        """As JSON carries it."""
        item: dict[str, Any] = {"id": id_}
        if self.image is not None:
            item["image"] = base64.b64encode(self.image).decode()
        if self.text is not None:
            item["text"] = self.text
        if self.activations:
            item["activations"] = {
                name: base64.b64encode(row_D.astype("<f4").tobytes()).decode()
                for name, row_D in self.activations.items()
            }
        return item

    def message(self, id_: str) -> pb.Item:
        """As gRPC carries it."""
        item = Resolved(id_, self.image, self.text, dict(self.activations))
        return ProtoWire().prepare(item).content


def images(count: int, width: int, height: int, seed: int = 0) -> list[Sample]:
    """Synthetic JPEGs of one size."""
    return [Sample(image=jpeg(photo(seed * 10_000 + n, width, height))) for n in range(count)]


def texts(count: int) -> list[Sample]:
    """Captions, all different."""
    words = itertools.product(_SIZES, _COLOURS, _SHAPES, _GROUNDS)
    found = [f"a {s} {c} {o} on {g}" for s, c, o, g in words]
    random.Random(0).shuffle(found)
    return [Sample(text=text) for text in found[:count]]


def activations(count: int, widths: Mapping[str, int], seed: int = 0) -> list[Sample]:
    """Normal activations for each of the streams."""
    rng = np.random.default_rng(seed)
    return [
        Sample(activations={n: rng.normal(size=d).astype(np.float32) for n, d in widths.items()})
        for _ in range(count)
    ]


def broken_images(count: int) -> list[Sample]:
    """Files that are no whole image."""
    return [Sample(image=broken(seed), broken=True) for seed in range(count)]


def request(
    samples: Sequence[Sample], places: Sequence[int], *, packed: bool = False, **options: Any
) -> Request:
    """A body with those samples; each id says which sample it is and where it stands."""
    inputs = [samples[at].item(f"{place}:{at}") for place, at in enumerate(places)]
    if packed:
        options["encoding"] = "packed"
    body = json.dumps({"inputs": inputs} | options, separators=(",", ":")).encode()
    return Request(body, len(places), tuple(places))


def grpc_request(
    samples: Sequence[Sample], places: Sequence[int], *, packed: bool = False
) -> Request:
    """The same as a message of gRPC's."""
    inputs = [samples[at].message(f"{place}:{at}") for place, at in enumerate(places)]
    message = pb.EncodeRequest(inputs=inputs, encoding=pb.PACKED if packed else pb.LISTS)
    return Request(message.SerializeToString(), len(places), tuple(places))


def requests(
    samples: Sequence[Sample],
    items: int,
    count: int | None = None,
    make: Callable[..., Request] = request,
    **options: Any,
) -> list[Request]:
    """Bodies of `items` samples each, going round through all of them; `make` makes one."""
    count = count or -(-len(samples) // items)
    endless = itertools.cycle(range(len(samples)))
    return [make(samples, [next(endless) for _ in range(items)], **options) for _ in range(count)]


def mixed_requests(
    samples: Sequence[Sample], count: int, *, most_items: int, seed: int, **options: Any
) -> list[Request]:
    """Bodies of 1 to `most_items` samples drawn at random."""
    rng = random.Random(seed)
    return [
        request(samples, rng.choices(range(len(samples)), k=rng.randint(1, most_items)), **options)
        for _ in range(count)
    ]
