"""Backbone graphs in fewer bits; knows ONNX and batches of inputs, no dictionary and no fidelity.

int8: convolutions get 8-bit activations with ranges from training items and 7-bit weights by
channel (`static`), matrix products 7-bit weights and activations ranged at run time (`dynamic`,
arXiv 2004.09602 section 3). Seven bits: without VNNI, x86 adds two products in 16 bits, which
8 by 8 bits overflow. What stays in float32, and all of fp16, is only stored in 16 bits.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from koine.sessions import CPU

Calibration = Literal["minmax", "entropy", "percentile"]
Method = Literal["static", "dynamic"]
CALIBRATIONS: dict[Calibration, CalibrationMethod] = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
Inputs = Mapping[str, np.ndarray]
HALVED_ABOVE = 1024
"""Numbers in a tensor from which it is stored in 16 bits; fewer save nothing."""
_LAYERS: dict[Method, tuple[str, ...]] = {"static": ("Conv",), "dynamic": ("MatMul", "Gemm")}
_BETWEEN = ("Clip", "Relu", "Add")
"""Quantised with convolutions so that nothing is converted between two of them."""


def method_for(graph: Path) -> Method:
    """`static` where convolutions do most of the work, else `dynamic`."""
    kinds = Counter(node.op_type for node in onnx.load(graph, load_external_data=False).graph.node)
    return "static" if kinds["Conv"] > kinds["MatMul"] + kinds["Gemm"] else "dynamic"


def prepared(source: Path, path: Path) -> Path:
    """Writes the graph with shapes inferred and layers fused, as quantisation wants it."""
    with _quiet():
        quant_pre_process(str(source), str(path), skip_symbolic_shape=True)
    return path


def layers(graph: Path, method: Method) -> list[str]:
    """Names of the nodes with weights that `method` would quantise, first to last."""
    model = onnx.load(graph)
    weights = {tensor.name for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in _LAYERS[method] and weights & set(node.input)
    ]


def quantise_static(
    graph: Path,
    path: Path,
    batches: Sequence[Inputs],
    *,
    calibration: Calibration,
    keep: Collection[str] = (),
    ranges: Path | None = None,
) -> None:
    """Writes convolutions in int8, all but those in `keep`.

    `ranges`: where ranges of activations are kept between calls with the same batches.
    """
    with _quiet():
        quantize_static(
            str(graph),
            str(path),
            _Reader(batches),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=[*_LAYERS["static"], *_BETWEEN],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=sorted(_with_activations(graph, keep)),
            calibrate_method=CALIBRATIONS[calibration],
            calibration_providers=[CPU],
            calibration_cache_path=ranges,
        )


def quantise_dynamic(graph: Path, path: Path, *, keep: Collection[str] = ()) -> None:
    """Writes matrix products in int8, all but those in `keep`."""
    with _quiet():
        quantize_dynamic(
            str(graph),
            str(path),
            op_types_to_quantize=list(_LAYERS["dynamic"]),
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=sorted(keep),
            extra_options={"MatMulConstBOnly": True},
        )


def halve(source: Path, path: Path) -> None:
    """Writes the graph with float32 weights stored in 16 bits and widened when it loads."""
    model = onnx.load(source)
    casts: list[onnx.NodeProto] = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < HALVED_ABOVE:
            continue
        name, values = tensor.name, numpy_helper.to_array(tensor)
        largest = np.finfo(np.float16).max
        half = np.clip(values, -largest, largest).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    _drop_stale_shapes(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(path))


def correct(path: Path, offset_D: np.ndarray) -> None:
    """Adds an offset to the activations that a graph gives."""
    model = onnx.load(path)
    for node in model.graph.node:
        for i, name in enumerate(node.output):
            if name == "acts":
                node.output[i] = "acts.quantised"
        for i, name in enumerate(node.input):
            if name == "acts":
                node.input[i] = "acts.quantised"
    offset = numpy_helper.from_array(offset_D.astype(np.float32), "acts.offset")
    model.graph.initializer.append(offset)
    add = helper.make_node("Add", ["acts.quantised", "acts.offset"], ["acts"])
    model.graph.node.append(add)
    path.write_bytes(model.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(path))


class _Reader(CalibrationDataReader):
    def __init__(self, batches: Iterable[Inputs]) -> None:
        self._left = iter(batches)

    def get_next(self) -> Inputs | None:
        return next(self._left, None)


def _with_activations(graph: Path, keep: Collection[str]) -> set[str]:
    """`keep` and the activation functions that follow: else their inputs would be rounded."""
    nodes = onnx.load(graph, load_external_data=False).graph.node
    outputs = {name for node in nodes if node.name in keep for name in node.output}
    follow = {n.name for n in nodes if n.op_type in ("Clip", "Relu") and outputs & set(n.input)}
    return set(keep) | follow


def _drop_stale_shapes(model: onnx.ModelProto) -> None:
    """Forgets recorded types of inner tensors, some of which are weights that changed type."""
    del model.graph.value_info[:]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences advice to prepare graphs that are prepared, and for operators left in float."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
