"""The selection graphs, built node by node from numpy weights; traces nothing, loads no torch.

Per stream, as in `training/model.py`:
    u = x / (‖x‖ + 1e-8);  z = (u - shift) · scale
    pre_codes = (z - pre_bias) · encoderᵀ + latent_bias
    fvu = ‖û - u‖² / ‖u - mean‖²  with  û = (codes · dictionary + pre_bias) / scale + shift
ONNX's TopK puts the lower index first among equal values; the graphs rely on that for ties.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import onnx
from jaxtyping import Float32
from onnx import TensorProto, helper

from koine.codes import PAD
from koine.manifest import JOINT_HEAD

OPSET = 20
IR_VERSION = 10
WEIGHTS = "weights.bin"
"""All heads share this file; each graph names the tensors that it needs by offset."""
UNIT_NORM_EPS = 1e-8
SMALLEST_VARIANCE = 1e-12
"""Below this squared distance from the mean, fvu divides by this instead."""
_ALIGN = 4096  # ONNX Runtime maps external tensors into memory page by page


@dataclass(frozen=True, kw_only=True)
class HeadWeights:
    """One stream's weights, names as in `training/model.py`."""

    encoder_CD: Float32[np.ndarray, "C D"]
    latent_bias_C: Float32[np.ndarray, "C"]
    pre_bias_D: Float32[np.ndarray, "D"]
    dictionary_CD: Float32[np.ndarray, "C D"]
    mean_D: Float32[np.ndarray, "D"]
    shift_D: Float32[np.ndarray, "D"]
    scale: Float32[np.ndarray, ""]

    @property
    def num_concepts(self) -> int:
        """C."""
        return len(self.encoder_CD)

    @property
    def d_in(self) -> int:
        """D."""
        return self.encoder_CD.shape[1]


def head_file(stream: str) -> str:
    """Where the graph by which `stream` selects alone lies in the artifact."""
    return f"heads/{stream}.onnx"


def write_heads(
    folder: Path, weights: Mapping[str, HeadWeights], k: int, *, shared: bool = True
) -> None:
    """Writes `heads/` into `folder`: a graph for each stream, the joint one, and their weights.

    `shared`: joint encoding takes one support per item (Global TopK) or each stream its own.
    """
    heads = folder / "heads"
    heads.mkdir(parents=True, exist_ok=True)
    stored = _write_weights(heads / WEIGHTS, weights)
    for name, w in weights.items():
        graph = _Graph(stored, k)
        pre, u = graph.pre_codes(name, graph.input("acts", ["N", w.d_in]))
        indices, values = graph.strongest(pre)
        graph.output_codes("", indices, values, graph.fvu(name, u, indices, values))
        graph.save(folder / head_file(name))
    joint = _joint_graph(_Graph(stored, k), weights, shared)
    joint.save(folder / JOINT_HEAD)


def _joint_graph(graph: _Graph, weights: Mapping[str, HeadWeights], shared: bool) -> _Graph:
    present = graph.input("present", ["N", len(weights)], TensorProto.BOOL)
    pre: dict[str, str] = {}
    unit: dict[str, str] = {}
    here: dict[str, str] = {}
    for column, (name, w) in enumerate(weights.items()):
        here[name] = graph.op("Gather", present, graph.ints([column]), axis=1)
        acts = graph.input(f"acts.{name}", ["N", w.d_in])
        acts = graph.op("Where", here[name], acts, graph.floats(0.0))
        pre[name], unit[name] = graph.pre_codes(name, acts)
    support = ""
    if shared:
        heard = [graph.op("Where", here[n], pre[n], graph.floats(0.0)) for n in weights]
        support = graph.support(graph.op("Sum", *heard))
    for name in weights:
        if shared:
            indices, values = graph.on_support(pre[name], support)
        else:
            indices, values = graph.strongest(pre[name])
        values = graph.op("Where", here[name], values, graph.floats(0.0))
        fvu = graph.fvu(name, unit[name], indices, values)
        flat = graph.op("Squeeze", here[name], graph.ints([1]))
        fvu = graph.op("Where", flat, fvu, graph.floats(float("nan")))
        graph.output_codes(f"{name}.", indices, values, fvu)
    return graph


def _write_weights(path: Path, weights: Mapping[str, HeadWeights]) -> dict[str, onnx.TensorProto]:
    """Writes all tensors into one file and returns, by `stream.field`, how a graph names them."""
    stored: dict[str, onnx.TensorProto] = {}
    with path.open("wb") as file:
        for stream, w in weights.items():
            for field in fields(w):
                array = np.ascontiguousarray(getattr(w, field.name), dtype="<f4")
                file.write(b"\0" * (-file.tell() % _ALIGN))
                tensor = onnx.TensorProto(
                    name=f"{stream}.{field.name}",
                    data_type=TensorProto.FLOAT,
                    dims=array.shape,
                    data_location=TensorProto.EXTERNAL,
                )
                place = {"location": WEIGHTS, "offset": file.tell(), "length": array.nbytes}
                for key, value in place.items():
                    tensor.external_data.add(key=key, value=str(value))
                file.write(array.tobytes())
                stored[tensor.name] = tensor
    return stored


class _Graph:
    """A graph under construction; methods add nodes and return their output's name."""

    def __init__(self, stored: Mapping[str, onnx.TensorProto], k: int) -> None:
        self._stored = stored
        self._k = k
        self._named = 0
        self._nodes: list[onnx.NodeProto] = []
        self._tensors: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def pre_codes(self, stream: str, acts_ND: str) -> tuple[str, str]:
        """Pre-codes [N, C] and unit activations [N, D]."""
        norm = self.op("ReduceL2", acts_ND, self.ints([1]), keepdims=1)
        u = self.op("Div", acts_ND, self.op("Add", norm, self.floats(UNIT_NORM_EPS)))
        centred = self.op("Sub", u, self.weight(stream, "shift_D"))
        z = self.op("Mul", centred, self.weight(stream, "scale"))
        pre_codes = self.op(
            "Gemm",
            self.op("Sub", z, self.weight(stream, "pre_bias_D")),
            self.weight(stream, "encoder_CD"),
            self.weight(stream, "latent_bias_C"),
            transB=1,
        )
        return pre_codes, u

    def strongest(self, pre_codes_NC: str) -> tuple[str, str]:
        """Indices (int64) and values of the k largest pre-codes, after ReLU."""
        values, indices = self.top(pre_codes_NC)
        return indices, self.op("Relu", values)

    def support(self, scores_NC: str) -> str:
        """Indices of the k largest scores, ascending, so that later ties fall to the lower."""
        _, indices = self.top(scores_NC)
        ascending, _ = self.top(indices, largest=0)
        return ascending

    def on_support(self, pre_codes_NC: str, support_NK: str) -> tuple[str, str]:
        """A stream's own values at a shared support, strongest first."""
        values = self.op("Relu", self.op("GatherElements", pre_codes_NC, support_NK, axis=1))
        values, order = self.top(values)
        return self.op("GatherElements", support_NK, order, axis=1), values

    def fvu(self, stream: str, u_ND: str, indices_NK: str, values_NK: str) -> str:
        """Each item's fraction of variance unexplained [N]."""
        rows_NKD = self.op("Gather", self.weight(stream, "dictionary_CD"), indices_NK, axis=0)
        codes_N1K = self.op("Unsqueeze", values_NK, self.ints([1]))
        sums_ND = self.op("Squeeze", self.op("MatMul", codes_N1K, rows_NKD), self.ints([1]))
        z_hat = self.op("Add", sums_ND, self.weight(stream, "pre_bias_D"))
        centred = self.op("Div", z_hat, self.weight(stream, "scale"))
        u_hat = self.op("Add", centred, self.weight(stream, "shift_D"))
        error = self.squared(self.op("Sub", u_hat, u_ND))
        variance = self.squared(self.op("Sub", u_ND, self.weight(stream, "mean_D")))
        return self.op("Div", error, self.op("Max", variance, self.floats(SMALLEST_VARIANCE)))

    def squared(self, rows_ND: str) -> str:
        """Sum of squares of each row [N]."""
        return self.op("ReduceSumSquare", rows_ND, self.ints([1]), keepdims=0)

    def top(self, rows: str, largest: int = 1) -> tuple[str, str]:
        """The k largest (or smallest) of each row in order, and where they stood."""
        values, places = self._name(), self._name()
        inputs = [rows, self.ints([self._k])]
        self._nodes.append(
            helper.make_node("TopK", inputs, [values, places], largest=largest, sorted=1, axis=1)
        )
        return values, places

    def output_codes(self, prefix: str, indices_NK: str, values_NK: str, fvu_N: str) -> None:
        """Declares a stream's outputs; entries that are not positive become pads."""
        active = self.op("Greater", values_NK, self.floats(0.0))
        small = self.op("Cast", indices_NK, to=TensorProto.INT32)
        pad = self._constant(np.array(PAD, np.int32))
        padded = self.op("Where", active, small, pad)
        for name, value, kind in (
            ("indices", padded, TensorProto.INT32),
            ("values", values_NK, TensorProto.FLOAT),
            ("fvu", fvu_N, TensorProto.FLOAT),
        ):
            shape = ["N"] if name == "fvu" else ["N", self._k]
            self._nodes.append(helper.make_node("Identity", [value], [f"{prefix}{name}"]))
            self._outputs.append(helper.make_tensor_value_info(f"{prefix}{name}", kind, shape))

    def input(self, name: str, shape: list[int | str], kind: int = TensorProto.FLOAT) -> str:
        """Declares an input."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def op(self, kind: str, *inputs: str, **attributes: int) -> str:
        """Adds a node with one output."""
        out = self._name()
        node = helper.make_node(kind, inputs, [out])
        node.attribute.extend(helper.make_attribute(*pair) for pair in attributes.items())
        self._nodes.append(node)
        return out

    def weight(self, stream: str, field: str) -> str:
        """A tensor of the shared weights file."""
        name = f"{stream}.{field}"
        self._tensors[name] = self._stored[name]
        return name

    def ints(self, values: list[int]) -> str:
        """A constant list of axes or sizes."""
        return self._constant(np.array(values, np.int64))

    def floats(self, value: float) -> str:
        """A constant number."""
        return self._constant(np.array(value, np.float32))

    def save(self, path: Path) -> None:
        """Writes the graph after ONNX's own check of it."""
        graph = helper.make_graph(
            self._nodes, path.stem, self._inputs, self._outputs, list(self._tensors.values())
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(
            graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="koine"
        )
        path.write_bytes(model.SerializeToString(deterministic=True))
        onnx.checker.check_model(str(path), full_check=True)

    def _constant(self, array: np.ndarray) -> str:
        name = f"const.{array.dtype}.{array.tolist()}"
        self._tensors[name] = onnx.numpy_helper.from_array(array, name)
        return name

    def _name(self) -> str:
        self._named += 1
        return f"t{self._named}"
