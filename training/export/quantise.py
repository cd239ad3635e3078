"""Backbone graphs in fewer bits; knows ONNX and batches of inputs, no dictionary and no fidelity.

int8: 8-bit weights with a scale for each output channel, 8-bit activations with ranges from
training items, so that an item's codes do not depend on its batch (arXiv 2004.09602). Weights and
biases are made ready in `rounding.py`. What stays in float32, and all of fp16, is only stored in
16 bits. Without VNNI, x86 would overflow where it adds two 8-bit products; `koine/sessions.py`
asks for the exact kernels there.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from koine.sessions import CPU
from training.export.inner import Inputs
from training.export.rounding import Rounding, smooth

Calibration = Literal["minmax", "entropy", "percentile"]
Body = Literal["convolutions", "products"]
"""What does most of a backbone's work; only that is quantised."""
CALIBRATIONS: dict[Calibration, CalibrationMethod] = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
HALVED_ABOVE = 1024
"""Numbers in a tensor from which it is stored in 16 bits; fewer save nothing."""
_LAYERS: dict[Body, tuple[str, ...]] = {"convolutions": ("Conv",), "products": ("MatMul", "Gemm")}
_BETWEEN: dict[Body, tuple[str, ...]] = {"convolutions": ("Clip", "Relu", "Add"), "products": ()}
"""Quantised with the layers so that nothing is converted between two of them."""


def body_of(graph: Path) -> Body:
    """`convolutions` where they do most of the work, else `products`."""
    kinds = Counter(node.op_type for node in onnx.load(graph, load_external_data=False).graph.node)
    return "convolutions" if kinds["Conv"] > kinds["MatMul"] + kinds["Gemm"] else "products"


def prepared(source: Path, path: Path) -> Path:
    """Writes the graph with shapes inferred, layers fused and every node named."""
    with _quiet():
        quant_pre_process(str(source), str(path), skip_symbolic_shape=True)
    model = onnx.load(path)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}.{number}"
    onnx.save(model, path)
    return path


class Quantiser:
    """Writes one prepared graph in int8, any of its layers kept in float32."""

    def __init__(
        self, graph: Path, folder: Path, batches: Sequence[Inputs], calibration: Calibration
    ) -> None:
        """`folder` takes scratch files. `calibration` is for convolutions: products take minima
        and maxima, since texts of several lengths make no common histogram."""
        self.body: Body = body_of(graph)
        self._batches, self._folder = batches, folder
        self._calibration: Calibration = calibration if self.body == "convolutions" else "minmax"
        self._graph = graph
        if self.body == "products":
            self._graph = smooth(graph, folder / "smooth.onnx", batches)
        self._rounding = Rounding.of(self._graph, _LAYERS[self.body], batches)

    @property
    def layers(self) -> list[str]:
        """Nodes with weights, first to last, that `write` quantises unless told to keep them."""
        return list(self._rounding.layers)

    @property
    def always_kept(self) -> list[str]:
        """The convolution that reads the pixels: it has three channels, so eight bits save it no
        time, and ONNX Runtime would normalise pixels with channels last, which is slow."""
        return self.layers[: self.body == "convolutions"]

    @property
    def ranges(self) -> str:
        """How ranges of activations follow from those seen."""
        return self._calibration

    def write(self, path: Path, keep: Collection[str] = ()) -> None:
        """Writes the graph with all layers in int8 but those in `keep` and `always_kept`."""
        keep = {*keep, *self.always_kept}
        shifted = self._rounding.shifted(self._graph, self._folder / "shifted.onnx", keep)
        only_products = {"OpTypesToExcludeOutputQuantization": list(_LAYERS["products"])}
        options: dict[str, Any] = only_products if self.body == "products" else {}
        with _quiet():
            quantize_static(
                str(shifted),
                str(path),
                _Reader(self._batches),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=[*_LAYERS[self.body], *_BETWEEN[self.body]],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=sorted(self._excluded(keep)),
                calibrate_method=CALIBRATIONS[self._calibration],
                calibration_providers=[CPU],
                calibration_cache_path=self._folder / "ranges",
                extra_options=options | {"TensorQuantOverrides": self._rounding.overrides(keep)},
            )

    def _excluded(self, keep: Collection[str]) -> set[str]:
        """`keep`, products of two activations, and what only follows excluded nodes: else an
        activation function or a residual between layers in float32 would round them."""
        nodes = onnx.load(self._graph, load_external_data=False).graph.node
        weightless = {n.name for n in nodes if n.op_type in _LAYERS[self.body]} - {*self.layers}
        excluded = set(keep) | weightless
        maker = {name: node for node in nodes for name in node.output}
        for node in nodes:
            before = {maker[name].name for name in node.input if name in maker}
            if node.op_type in _BETWEEN[self.body] and before and before <= excluded:
                excluded.add(node.name)
        return excluded


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


def _drop_stale_shapes(model: onnx.ModelProto) -> None:
    """Forgets recorded types of inner tensors, some of which are weights that changed type."""
    del model.graph.value_info[:]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences advice to prepare graphs that are prepared, and what calibration prints."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
