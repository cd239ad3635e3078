"""The Open Inference Protocol's tensors to items and back; knows neither HTTP nor gRPC.

A dictionary is a model, its version the model's. Inputs: `image` BYTES [N], `text` BYTES [N],
`activations.<stream>` FP32 [N, D]. Outputs by stream: `<stream>.indices` INT32 [N, K],
`<stream>.values` FP32 [N, K], `<stream>.fvu` FP32 [N].
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from koine.codes import PAD
from koine.errors import KoineError, RequestError, TextError
from service import jobs
from service.answers import stacked
from service.call import Call, Encoded
from service.core import Core
from service.dictionary import Dictionary
from service.errors import placed
from service.jobs import Item
from service.reading import check_count, read_options
from service.schemas import Options
from service.schemas.inference import MOST_TENSORS
from service.settings import Settings
from service.tensors import Tensor

PLATFORM = "koine"
IMAGE, TEXT, ACTIVATIONS = "image", "text", "activations."
INDICES, VALUES, FVU = "indices", "values", "fvu"
_DATATYPES = {INDICES: "INT32", VALUES: "FP32", FVU: "FP32"}
_OPTIONS = frozenset({"mode", "top_k", "streams"})
_IGNORED = frozenset({"binary_data_output", "priority", "timeout"})
"""Parameters of the protocol's transports and of other servers' schedulers."""


class Inferred(NamedTuple):
    """What a request is answered with."""

    encoded: Encoded
    tensors: list[Tensor]


async def infer(
    core: Core,
    model: tuple[str, str],
    tensors: Sequence[Tensor],
    parameters: Mapping[str, object],
    *,
    wanted: Sequence[str] | None = None,
    timeout_s: float | None = None,
    spend: Callable[[int], None] | None = None,
) -> Inferred:
    """Tensors in, the `wanted` ones (None: all) out; `model` is name and version, "" being any.

    `spend` is called with the number of items, and may raise, before they are encoded.
    Raises what concerns the whole request; an item's error too, unless `parameters` has `partial`.
    """
    dictionary = find(core, *model)
    _check_names("output", wanted or ())
    items, options, partial = items_of(tensors, parameters, max_items=core.settings.max_items)
    if spend is not None:
        spend(len(items))
    for name in wanted or ():
        _output(name, dictionary)
    # joint codes depend on every stream that takes part: what is answered must not change them
    if wanted and options.streams is None and options.mode == "independent":
        streams = list(dict.fromkeys(_output(name, dictionary)[0] for name in wanted))
        options = options.model_copy(update={"streams": streams})
    options = options.model_copy(update={"dictionary": dictionary.title})
    encoded = await core.encode(Call(items=items, options=options, timeout_s=timeout_s))
    return Inferred(encoded, tensors_of(encoded, options, wanted, partial))


def find(core: Core, name: str, version: str = "") -> Dictionary:
    """The model. Raises `NotReadyError`, `UnknownDictionaryError`."""
    return core.dictionaries.find(f"{name}@{version}" if version else name)


def items_of(
    tensors: Sequence[Tensor], parameters: Mapping[str, object], *, max_items: int
) -> tuple[list[Item], Options, bool]:
    """Items, how to encode them, and whether one that cannot be encoded spares the others.

    An empty element of a BYTES tensor beside other inputs means that the item has none.
    Raises `RequestError`, `TooLargeError`.
    """
    options, partial = _options(parameters)
    if not tensors:
        raise RequestError(
            "the request has no inputs; send `image`, `text` or `activations.<stream>`"
        )
    _check_names("input", [tensor.name for tensor in tensors])
    for tensor in tensors:
        _check(tensor)
    rows = {tensor.shape[0] for tensor in tensors}
    if len(rows) > 1:
        got = ", ".join(f"`{tensor.name}` {list(tensor.shape)}" for tensor in tensors)
        raise RequestError(f"the inputs differ in their first dimension: {got}; make it the same")
    (count,) = rows
    check_count(count, max_items)
    return [_item(n, tensors) for n in range(count)], options, partial


def _check_names(kind: str, names: Sequence[str]) -> None:
    """Raises `RequestError` for more tensors than anybody needs, or one of them twice."""
    if len(names) > MOST_TENSORS:
        raise RequestError(
            f"the request has {len(names)} {kind}s, the limit is {MOST_TENSORS}; send fewer"
        )
    for name, count in Counter(names).items():
        if count > 1:
            raise RequestError(f"the {kind} `{name[:64]}` is given twice; give it once")


def _options(parameters: Mapping[str, object]) -> tuple[Options, bool]:
    given: dict[str, str] = {}
    for name, value in parameters.items():
        if name in _OPTIONS:
            given[name] = str(value)
        elif name not in _IGNORED and name != "partial" and not name.startswith("triton_"):
            known = ", ".join(sorted(_OPTIONS | {"partial"}))
            raise RequestError(f"unknown parameter `{name}`; this service has {known}")
    partial = parameters.get("partial", False)
    if not isinstance(partial, bool):
        raise RequestError(f"the parameter `partial` must be true or false, got {partial!r}")
    return read_options(given), partial


def _check(tensor: Tensor) -> None:
    """Raises `RequestError` for what is no input of any dictionary."""
    name, shape = tensor.name, list(tensor.shape)
    if name in (IMAGE, TEXT):
        fits = len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)
        datatype, form = "BYTES", "[N]"
    elif name.startswith(ACTIVATIONS):
        fits, datatype, form = len(shape) == 2, "FP32", "[N, D]"
    else:
        raise RequestError(
            f"unknown input `{name[:64]}`; send `image`, `text` or `activations.<stream>`"
        )
    if tensor.datatype != datatype:
        raise RequestError(f"the input `{name}` is {datatype}, got {tensor.datatype[:16]!r}")
    if not fits or shape[0] < 1:
        raise RequestError(f"the input `{name}` has shape {form} with N from 1, got {shape}")
    if len(tensor.data) != shape[0]:
        raise RequestError(f"the input `{name}` has {len(tensor.data)} elements for shape {shape}")


def _item(n: int, tensors: Sequence[Tensor]) -> Item:
    image: bytes | None = None
    text: str | None = None
    activations: dict[str, np.ndarray] = {}
    for tensor in tensors:
        element = tensor.data[n]
        if isinstance(element, np.ndarray):
            activations[tensor.name.removeprefix(ACTIVATIONS)] = element
        elif not element and len(tensors) > 1:
            continue
        elif tensor.name == IMAGE:
            image = element
        else:
            try:
                text = element.decode()
            except UnicodeDecodeError as fault:
                return Item(id=str(n), error=TextError(f"the text is not UTF-8: {fault.reason}"))
    if image is None and text is None and not activations:
        error = RequestError("the item is empty in every input; give it one of them")
        return Item(id=str(n), error=error)
    return Item(id=str(n), image=image, text=text, activations=activations)


def tensors_of(
    encoded: Encoded, options: Options, wanted: Sequence[str] | None, partial: bool
) -> list[Tensor]:
    """The answers as tensors: those `wanted`, else all of every stream that an item has codes in.

    An item without codes in a stream has a row of pads there, and NaN for its fvu.
    Raises the first error among the answers, with its position, unless `partial`.
    """
    encoder, answers = encoded.dictionary.encoder, encoded.answers
    for n, answer in enumerate(answers):
        if isinstance(answer, KoineError) and not partial:
            raise placed(answer, f"item {n}")
    if wanted is None or not wanted:
        answered = {name for answer in answers if isinstance(answer, dict) for name in answer}
        shown = answered or set(options.streams or encoder.streams)
        streams = [name for name in encoder.streams if name in shown]
        wanted = [f"{name}.{kind}" for name in streams for kind in _DATATYPES]
    made: dict[str, dict[str, np.ndarray]] = {}
    tensors: list[Tensor] = []
    for output in wanted:
        name, kind = _output(output, encoded.dictionary)
        if name not in made:
            made[name] = _arrays(name, encoded, options.top_k)
        array = made[name][kind]
        tensors.append(Tensor(output, _DATATYPES[kind], array.shape, array))
    return tensors


def _arrays(name: str, encoded: Encoded, top_k: int | None) -> dict[str, np.ndarray]:
    answers, k = encoded.answers, encoded.dictionary.encoder.k
    indices_NK = np.full((len(answers), k), PAD, np.int32)
    values_NK = np.zeros((len(answers), k), np.float32)
    fvu_N = np.full(len(answers), math.nan, np.float32)
    rows = {n: a[name] for n, a in enumerate(answers) if isinstance(a, dict) and name in a}
    if rows:
        places = list(rows)
        indices_NK[places], values_NK[places] = stacked(list(rows.values()), top_k)
        fvu_N[places] = [row.fvu for row in rows.values()]
    return {INDICES: indices_NK, VALUES: values_NK, FVU: fvu_N}


def _output(name: str, dictionary: Dictionary) -> tuple[str, str]:
    """The stream and what of it. Raises `RequestError`."""
    stream, _, kind = name.rpartition(".")
    if kind not in _DATATYPES or stream not in dictionary.encoder.streams:
        raise RequestError(
            f"unknown output `{name[:64]}`; they are `<stream>.{INDICES}`, `<stream>.{VALUES}` and "
            f"`<stream>.{FVU}` of the streams {', '.join(dictionary.encoder.streams)}"
        )
    return stream, kind


def model_metadata(dictionary: Dictionary) -> dict[str, Any]:
    """The protocol's model metadata response; -1 is any size."""
    manifest = dictionary.encoder.artifact.manifest
    inputs, outputs = _signature(dictionary)
    return {
        "name": manifest.name,
        "versions": [manifest.version],
        "platform": PLATFORM,
        "inputs": [_described(tensor) for tensor in inputs],
        "outputs": [_described(tensor) for tensor in outputs],
    }


def model_config(dictionary: Dictionary, settings: Settings) -> dict[str, Any]:
    """Triton's model configuration; dims have no batch dimension."""
    inputs, outputs = _signature(dictionary)
    return {
        "name": dictionary.encoder.artifact.manifest.name,
        "platform": PLATFORM,
        "backend": PLATFORM,
        "max_batch_size": settings.max_items,
        "input": [_configured(tensor) | {"optional": True} for tensor in inputs],
        "output": [_configured(tensor) for tensor in outputs],
        "dynamic_batching": {
            "preferred_batch_size": [settings.max_batch],
            "max_queue_delay_microseconds": round(settings.batch_wait_ms * 1000),
        },
    }


class _Signed(NamedTuple):
    """An input or output, without the batch dimension."""

    name: str
    datatype: str
    dims: list[int]


def _signature(dictionary: Dictionary) -> tuple[list[_Signed], list[_Signed]]:
    encoder = dictionary.encoder
    read = {spec.modality for n, spec in encoder.streams.items() if jobs.readable(encoder, n)}
    inputs = [_Signed(name, "BYTES", []) for name in (IMAGE, TEXT) if name in read]
    inputs += [
        _Signed(ACTIVATIONS + name, "FP32", [spec.d_in]) for name, spec in encoder.streams.items()
    ]
    outputs = [
        _Signed(f"{name}.{kind}", datatype, [] if kind == FVU else [encoder.k])
        for name in encoder.streams
        for kind, datatype in _DATATYPES.items()
    ]
    return inputs, outputs


def _described(tensor: _Signed) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": [-1, *tensor.dims]}


def _configured(tensor: _Signed) -> dict[str, Any]:
    datatype = "STRING" if tensor.datatype == "BYTES" else tensor.datatype
    return {"name": tensor.name, "data_type": f"TYPE_{datatype}", "dims": tensor.dims}
