"""Rewrites an ONNX graph into a backbone with the artifact's names; runs and loads nothing.

`image` (uint8 NHWC), or `input_ids` and `attention_mask` (int64), in; `acts` (float32) out. A
float NCHW image input gets the normalising front of the preprocess spec into its graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.compose
from onnx import TensorProto, helper, numpy_helper

from koine.errors import EncoderError
from koine.streams import ImagePreprocess, TextPreprocess

TEXT_INPUTS = ("input_ids", "attention_mask")
_PREFIX = "model/"


def as_backbone(
    model: onnx.ModelProto, path: Path, spec: ImagePreprocess | TextPreprocess
) -> onnx.ModelProto:
    """The same graph with the artifact's inputs and output around it; `path` is for errors."""
    model = onnx.compose.add_prefix(model, _PREFIX)
    graph = model.graph
    held = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in held]
    if isinstance(spec, ImagePreprocess):
        front, named = _image_front(inputs, path, spec)
    else:
        front, named = _text_front(inputs, path)
    back = helper.make_node("Cast", [graph.output[0].name], ["acts"], to=TensorProto.FLOAT)
    nodes = [*front, *graph.node, back]
    kept = [value for value in graph.input if value.name in held]
    # Stated sizes of what lies between may hold the batch of the export.
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.input.extend([*named, *kept])
    graph.output.append(helper.make_tensor_value_info("acts", TensorProto.FLOAT, ["N", None]))
    return model


def _text_front(inputs: Sequence[Any], path: Path) -> tuple[list[Any], list[Any]]:
    names = {value.name.removeprefix(_PREFIX): value for value in inputs}
    known = (*TEXT_INPUTS, "token_type_ids")
    if "input_ids" not in names or not names.keys() <= set(known):
        raise EncoderError(
            f"{path} has the inputs {', '.join(names)}; a text encoder takes input_ids and, if "
            "it needs them, attention_mask and token_type_ids (zeros): export it so"
        )
    front = []
    for name, value in names.items():
        kind = value.type.tensor_type.elem_type
        if name == "token_type_ids":
            front.append(helper.make_node("Sub", ["input_ids", "input_ids"], ["front/zeros"]))
        source = "front/zeros" if name == "token_type_ids" else name
        front.append(helper.make_node("Cast", [source], [_PREFIX + name], to=kind))
    tokens = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["N", "T"]) for name in TEXT_INPUTS
    ]
    return front, tokens


def _image_front(
    inputs: Sequence[Any], path: Path, spec: ImagePreprocess
) -> tuple[list[Any], list[Any]]:
    if len(inputs) != 1:
        raise EncoderError(
            f"{path} has {len(inputs)} inputs; an image encoder takes exactly one: export it so"
        )
    (value,) = inputs
    name, tensor = value.name, value.type.tensor_type
    dims = [dim.dim_value or None for dim in tensor.shape.dim]
    size = spec.crop_size
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", size, size, 3])
    if tensor.elem_type == TensorProto.UINT8 and len(dims) == 4 and dims[3] in (3, None):
        return [helper.make_node("Identity", ["image"], [name])], [image]
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16)
    if tensor.elem_type in floats and len(dims) == 4 and dims[1] in (3, None):
        return _normalise(name, tensor.elem_type, spec), [image]
    kind = TensorProto.DataType.Name(tensor.elem_type)
    raise EncoderError(
        f"{path} takes {kind} {dims}; an image encoder takes uint8 [N, H, W, 3] or "
        "float [N, 3, H, W]: export it so"
    )


def _normalise(name: str, kind: int, spec: ImagePreprocess) -> list[Any]:
    """Nodes from uint8 NHWC to normalised NCHW, the operations of torchvision."""

    front: list[Any] = []

    def add(operator: str, inputs: list[str], output: str, **fields: Any) -> str:
        front.append(helper.make_node(operator, inputs, [output], **fields))
        return output

    def constant(output: str, values: Sequence[float]) -> str:
        array = np.array(values, np.float32).reshape((1, -1, 1, 1))
        return add("Constant", [], output, value=numpy_helper.from_array(array))

    pixels = add("Transpose", ["image"], "front/nchw", perm=[0, 3, 1, 2])
    pixels = add("Cast", [pixels], "front/float", to=TensorProto.FLOAT)
    pixels = add("Div", [pixels, constant("front/255", [255.0])], "front/unit")
    pixels = add("Sub", [pixels, constant("front/mean", spec.mean)], "front/centred")
    pixels = add("Div", [pixels, constant("front/std", spec.std)], "front/normalised")
    add("Cast", [pixels], name, to=kind)
    return front
