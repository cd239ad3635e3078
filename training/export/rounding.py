"""What makes a float32 graph round well: scales, biases and smoothed inputs; quantises nothing.

Scales leave the least squared error in each output channel. Biases give back what rounded weights
add on average, in closed form: Δb = (W - Ŵ) · E[x] (Nagel et al., arXiv 1906.04721, section 4.2).
Inputs of matrix products whose channels differ much in size hand some of that over to the weights:
SmoothQuant (arXiv 2211.10438), whose scale here is a product of its own, for the input is also a
residual. Equalisation across layers is left out: it serves weights with one scale for all
channels, and ReLU6 does not commute with it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from jaxtyping import Float32
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType

from training.export.inner import Inputs, inner_values

SMOOTHING = 0.7
"""Share of the channels' differences that weights take over: measured on MiniLM, see the log."""
_LARGEST = 127
_SHARES = np.linspace(0.8, 1.2, 81)
"""Multiples of the largest weight that are tried as the largest one represented: a few weights, as
of a depthwise convolution, lie better on one grid than on another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rounding:
    """How each layer's weights round."""

    layers: Mapping[str, onnx.NodeProto]
    """By name, first to last."""
    scales: Mapping[str, Float32[np.ndarray, "C"]]
    """Of each weight, by output channel."""
    axes: Mapping[str, int]
    """Which of a weight's axes are the output channels."""
    shifts: Mapping[str, Float32[np.ndarray, "C"]]
    """By layer: what rounding its weights takes from its output on average."""

    @classmethod
    def of(cls, graph: Path, kinds: Collection[str], batches: Sequence[Inputs]) -> Rounding:
        """Of the layers of these operators, inputs as in `batches`."""
        model = onnx.load(graph)
        found = {node.name: node for node in weighted(model, kinds)}
        tensors = {t.name: t for t in model.graph.initializer}
        means = _means(graph, found.values(), batches)
        scales: dict[str, np.ndarray] = {}
        axes: dict[str, int] = {}
        shifts: dict[str, np.ndarray] = {}
        for name, node in found.items():
            weight, axis = node.input[1], _channels(node)
            w = np.moveaxis(numpy_helper.to_array(tensors[weight]), axis, 0)
            scale_C = least_error_scales(w.reshape(len(w), -1))
            wide = scale_C.reshape(-1, *[1] * (w.ndim - 1))
            rounded = np.clip(np.rint(w / wide), -_LARGEST, _LARGEST) * wide
            scales[weight], axes[weight] = scale_C, axis
            shifts[name] = _response(w - rounded, means[node.input[0]])
        return cls(layers=found, scales=scales, axes=axes, shifts=shifts)

    def overrides(self, keep: Collection[str]) -> dict[str, list[dict[str, Any]]]:
        """The scales as ONNX Runtime's `TensorQuantOverrides`, of all layers but those kept."""
        weights = {n.input[1] for name, n in self.layers.items() if name not in keep}
        zero = np.array(0, np.int8)
        return {
            weight: [
                {"scale": s, "zero_point": zero, "quant_type": QuantType.QInt8, "axis": axis}
                for s in self.scales[weight]
            ]
            for weight, axis in self.axes.items()
            if weight in weights
        }

    def shifted(self, source: Path, path: Path, keep: Collection[str]) -> Path:
        """Writes the graph with biases that make up for rounding, of all layers but those kept."""
        model = onnx.load(source)
        tensors = {t.name: t for t in model.graph.initializer}
        for node in model.graph.node:
            if node.name in self.shifts and node.name not in keep:
                bias = _bias(model, node, tensors)
                if bias is None:
                    continue
                total = numpy_helper.to_array(tensors[bias]) + self.shifts[node.name]
                own = numpy_helper.from_array(total.astype(np.float32), f"{node.name}.shifted")
                model.graph.initializer.append(own)
                _replace_bias(model, node, bias, own.name)
        used = {name for node in model.graph.node for name in node.input}
        kept = [t for t in model.graph.initializer if t.name in used]
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)
        onnx.save(model, path)
        return path


def weighted(model: onnx.ModelProto, kinds: Collection[str]) -> list[onnx.NodeProto]:
    """Nodes of these operators whose second input is a weight, first to last."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [n for n in model.graph.node if n.op_type in kinds and n.input[1] in weights]


def least_error_scales(w_CM: Float32[np.ndarray, "C M"]) -> Float32[np.ndarray, "C"]:
    """For each row the scale by which int8 represents it with the least squared error."""
    largest_C = np.abs(w_CM).max(1)
    largest_C[largest_C == 0] = 1
    best_C, error_C = largest_C, np.full(len(w_CM), np.inf)
    for share in _SHARES:
        scale_C = (largest_C * share / _LARGEST).astype(np.float32)
        rounded_CM = np.clip(np.rint(w_CM / scale_C[:, None]), -_LARGEST, _LARGEST)
        found_C = np.square(rounded_CM * scale_C[:, None] - w_CM).sum(1)
        best_C = np.where(found_C < error_C, scale_C, best_C)
        error_C = np.minimum(found_C, error_C)
    return best_C.astype(np.float32)


def smooth(source: Path, path: Path, batches: Sequence[Inputs]) -> Path:
    """Writes the graph with the inputs of its matrix products divided by a scale for each channel,
    max|x|^α / max|w|^(1-α), and the weights multiplied by it."""
    model = onnx.load(source)
    tensors = {t.name: t for t in model.graph.initializer}
    products = weighted(model, ("MatMul",))
    names = list(dict.fromkeys(node.input[0] for node in products))
    largest = dict.fromkeys(names, np.float32(0))
    for values in inner_values(source, names, batches):
        for name, x in values.items():
            largest[name] = np.maximum(largest[name], np.abs(x).reshape(-1, x.shape[-1]).max(0))
    for name in names:
        using = [node for node in products if node.input[0] == name]
        weights = {n.input[1]: numpy_helper.to_array(tensors[n.input[1]]) for n in using}
        w_D = np.max([np.abs(w).max(1) for w in weights.values()], axis=0)
        tiny = np.finfo(np.float32).eps
        scale_D = np.maximum(largest[name], tiny) ** SMOOTHING
        scale_D = (scale_D / np.maximum(w_D, tiny) ** (1 - SMOOTHING)).astype(np.float32)
        for weight, w in weights.items():
            tensors[weight].CopyFrom(numpy_helper.from_array(w * scale_D[:, None], weight))
        inverse = numpy_helper.from_array(1 / scale_D, f"{name}.inverse")
        model.graph.initializer.append(inverse)
        small = f"{name}.smooth"
        node = helper.make_node("Mul", [name, inverse.name], [small], name=small)
        model.graph.node.insert(min(_place(model, user) for user in using), node)
        for user in using:
            user.input[0] = small
    onnx.save(model, path)
    return path


def _place(model: onnx.ModelProto, node: onnx.NodeProto) -> int:
    return next(i for i, other in enumerate(model.graph.node) if other.name == node.name)


def _channels(node: onnx.NodeProto) -> int:
    """Which axis of a layer's weight counts its outputs."""
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return 0 if node.op_type == "Conv" or transposed else 1


def _means(
    graph: Path, nodes: Collection[onnx.NodeProto], batches: Sequence[Inputs]
) -> dict[str, np.ndarray]:
    """Mean of each layer's input by channel, each batch alike."""
    axes = {n.input[0]: 1 if n.op_type == "Conv" else -1 for n in nodes}
    found: dict[str, list[np.ndarray]] = {name: [] for name in axes}
    for values in inner_values(graph, list(axes), batches):
        for name, x in values.items():
            x_C = np.moveaxis(x, axes[name], 0)
            found[name].append(x_C.reshape(len(x_C), -1).mean(1))
    return {name: np.mean(means, axis=0) for name, means in found.items()}


def _response(w: np.ndarray, x_D: np.ndarray) -> np.ndarray:
    """A layer's output for the constant input `x_D`; the weight's first axis counts outputs.

    A group of a convolution reads its own part of the channels.
    """
    w_CI = w.reshape(*w.shape[:2], -1).sum(2)
    groups = len(x_D) // w_CI.shape[1]
    x_GI = x_D.reshape(groups, -1)
    return np.einsum("goi,gi->go", w_CI.reshape(groups, -1, x_GI.shape[1]), x_GI).ravel()


def _bias(
    model: onnx.ModelProto, node: onnx.NodeProto, tensors: Mapping[str, onnx.TensorProto]
) -> str | None:
    """The constant that is added to a layer's output, None where there is none."""
    if node.op_type != "MatMul":
        return node.input[2] if len(node.input) > 2 and node.input[2] in tensors else None
    for other in model.graph.node:
        if other.op_type == "Add" and node.output[0] in other.input:
            return next((name for name in other.input if name in tensors), None)
    return None


def _replace_bias(model: onnx.ModelProto, node: onnx.NodeProto, bias: str, own: str) -> None:
    adds = [n for n in model.graph.node if n.op_type == "Add" and node.output[0] in n.input]
    for user in [node] if node.op_type != "MatMul" else adds:
        for i, name in enumerate(user.input):
            if name == bias:
                user.input[i] = own
