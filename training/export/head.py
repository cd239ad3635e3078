"""The selection graphs, built node by node from numpy weights; traces nothing, loads no torch.

Per stream, as in `training/model.py`:
    u = x / (‖x‖ + 1e-8);  z = (u - shift) · scale
    pre_codes = (z - pre_bias) · encoderᵀ + latent_bias
    fvu = ‖û - u‖² / ‖u - mean‖²  with  û = (codes · dictionary + pre_bias) / scale + shift
Scores, which choose the support, are the pre-codes, or with a selector those of
`training/selector.py`; then codes are refined and positive wherever a concept is selected.
ONNX's TopK puts the lower index first among equal values; the graphs rely on that for ties.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

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


Stored = Literal["float32", "float16", "int8"]
Storage = Mapping[str, Stored]
"""How arrays are stored by their name in `HeadWeights.arrays`, float32 where not said. Graphs
widen them again as they load, so that all arithmetic is in float32."""
SCALES = ".scales"
"""What the name of an int8 array's row scales ends in."""
_TYPES: dict[Stored, str] = {"float32": "<f4", "float16": "<f2", "int8": "i1"}


@dataclass(frozen=True, kw_only=True)
class SelectorWeights:
    """One stream's selector, names as in `training/selector.py`."""

    map_RD: Float32[np.ndarray, "R D"]
    map_bias_R: Float32[np.ndarray, "R"]
    prototypes_CR: Float32[np.ndarray, "C R"]
    """Unit rows times the stream's sharpness."""
    score_bias_C: Float32[np.ndarray, "C"]
    pre_code_weight: Float32[np.ndarray, ""]


@dataclass(frozen=True, kw_only=True)
class CodeRule:
    """How codes follow from pre-codes where a selector chooses; symbols in `SelectorConfig`."""

    softness: float
    refinements: int
    refine_rate: float


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
    selector: SelectorWeights | None = None

    def arrays(self) -> dict[str, np.ndarray]:
        """Every array by name, the selector's after `selector.`."""
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "selector"}
        if self.selector is not None:
            for field in fields(self.selector):
                found[f"selector.{field.name}"] = getattr(self.selector, field.name)
        return found

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
    folder: Path,
    weights: Mapping[str, HeadWeights],
    k: int,
    *,
    shared: bool = True,
    rule: CodeRule | None = None,
    storage: Storage | None = None,
) -> None:
    """Writes `heads/` into `folder`: a graph for each stream, the joint one, and their weights.

    `shared`: joint encoding takes one support per item (Global TopK) or each stream its own.
    `rule` goes with weights that have a selector; `storage` says how matrices are stored.
    """
    assert all((w.selector is None) == (rule is None) for w in weights.values())
    heads = folder / "heads"
    heads.mkdir(parents=True, exist_ok=True)
    stored = _write_weights(heads / WEIGHTS, weights, storage or {})
    for name, w in weights.items():
        graph = _Graph(stored, k, rule)
        at = graph.pre_codes(name, graph.input("acts", ["N", w.d_in]))
        indices, values = graph.alone(name, at)
        graph.output_codes("", indices, values, graph.fvu(name, at.unit_ND, indices, values))
        graph.save(folder / head_file(name))
    joint = _joint_graph(_Graph(stored, k, rule), weights, shared)
    joint.save(folder / JOINT_HEAD)


def _joint_graph(graph: _Graph, weights: Mapping[str, HeadWeights], shared: bool) -> _Graph:
    present = graph.input("present", ["N", len(weights)], TensorProto.BOOL)
    at: dict[str, _PreCodes] = {}
    here: dict[str, str] = {}
    for column, (name, w) in enumerate(weights.items()):
        here[name] = graph.op("Gather", present, graph.ints([column]), axis=1)
        acts = graph.input(f"acts.{name}", ["N", w.d_in])
        acts = graph.op("Where", here[name], acts, graph.floats(0.0))
        at[name] = graph.pre_codes(name, acts)
    support = ""
    if shared:
        scores = {name: graph.scores(name, at[name]) for name in weights}
        heard = [graph.op("Where", here[n], scores[n], graph.floats(0.0)) for n in weights]
        support = graph.support(graph.op("Sum", *heard))
    for name in weights:
        if shared:
            indices, values = graph.on_support(name, at[name], support)
        else:
            indices, values = graph.alone(name, at[name])
        values = graph.op("Where", here[name], values, graph.floats(0.0))
        fvu = graph.fvu(name, at[name].unit_ND, indices, values)
        flat = graph.op("Squeeze", here[name], graph.ints([1]))
        fvu = graph.op("Where", flat, fvu, graph.floats(float("nan")))
        graph.output_codes(f"{name}.", indices, values, fvu)
    return graph


def _write_weights(
    path: Path, weights: Mapping[str, HeadWeights], storage: Storage
) -> dict[str, onnx.TensorProto]:
    """Writes all tensors into one file and returns, by `stream.field`, how a graph names them."""
    stored: dict[str, onnx.TensorProto] = {}
    with path.open("wb") as file:
        for stream, w in weights.items():
            for key, values in w.arrays().items():
                name = f"{stream}.{key}"
                kind = storage.get(key, "float32")
                if kind == "int8":
                    scales_C1, values = quantised_rows(values)
                    stored[f"{name}{SCALES}"] = _append(file, f"{name}{SCALES}", scales_C1)
                stored[name] = _append(file, name, values.astype(_TYPES[kind]))
    return stored


def _append(file: BinaryIO, name: str, values: np.ndarray) -> onnx.TensorProto:
    file.write(b"\0" * (-file.tell() % _ALIGN))
    tensor = onnx.TensorProto(
        name=name,
        data_type=helper.np_dtype_to_tensor_dtype(values.dtype),
        dims=values.shape,
        data_location=TensorProto.EXTERNAL,
    )
    place = {"location": WEIGHTS, "offset": file.tell(), "length": values.nbytes}
    for what, value in place.items():
        tensor.external_data.add(key=what, value=str(value))
    file.write(np.ascontiguousarray(values).tobytes())
    return tensor


def quantised_rows(matrix_CD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scales [C, 1] and int8 values: each row's largest number becomes ±127."""
    largest_C1 = np.abs(matrix_CD).max(1, keepdims=True)
    scales_C1 = np.maximum(largest_C1 / 127, np.finfo(np.float32).tiny).astype("<f4")
    return scales_C1, np.rint(matrix_CD / scales_C1).astype(np.int8)


class _PreCodes(NamedTuple):
    """Where a stream's tensors stand in a graph."""

    pre_NC: str
    unit_ND: str
    z_ND: str
    """Normalised input."""
    centred_ND: str
    """z - pre_bias."""


class _Graph:
    """A graph under construction; methods add nodes and return their output's name."""

    def __init__(
        self, stored: Mapping[str, onnx.TensorProto], k: int, rule: CodeRule | None
    ) -> None:
        self._stored = stored
        self._rule = rule
        self._k = k
        self._named = 0
        self._widened: dict[str, str] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._tensors: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def pre_codes(self, stream: str, acts_ND: str) -> _PreCodes:
        """Pre-codes and what they are made of."""
        u = self.unit(acts_ND)
        centred = self.op("Sub", u, self.weight(stream, "shift_D"))
        z = self.op("Mul", centred, self.weight(stream, "scale"))
        centred_z = self.op("Sub", z, self.weight(stream, "pre_bias_D"))
        pre_codes = self.linear(stream, centred_z, "encoder_CD", "latent_bias_C")
        return _PreCodes(pre_codes, u, z, centred_z)

    def scores(self, stream: str, at: _PreCodes) -> str:
        """What selection ranks [N, C]."""
        if self._rule is None:
            return at.pre_NC
        place = self.linear(stream, at.z_ND, "selector.map_RD", "selector.map_bias_R")
        scores = self.linear(
            stream, self.unit(place), "selector.prototypes_CR", "selector.score_bias_C"
        )
        weighted = self.op("Mul", at.pre_NC, self.weight(stream, "selector.pre_code_weight"))
        return self.op("Add", scores, weighted)

    def alone(self, stream: str, at: _PreCodes) -> tuple[str, str]:
        """Indices (int64) and values of the concepts that the stream chooses alone."""
        if self._rule is None:
            values, indices = self.top(at.pre_NC)
            return indices, self.op("Relu", values)
        return self.on_support(stream, at, self.support(self.scores(stream, at)))

    def support(self, scores_NC: str) -> str:
        """Indices of the k largest scores, ascending, so that later ties fall to the lower."""
        _, indices = self.top(scores_NC)
        ascending, _ = self.top(indices, largest=0)
        return ascending

    def on_support(self, stream: str, at: _PreCodes, support_NK: str) -> tuple[str, str]:
        """A stream's own values at a support, strongest first."""
        pre = self.op("GatherElements", at.pre_NC, support_NK, axis=1)
        if self._rule is None:
            values = self.op("Relu", pre)
        else:
            values = self.refined(stream, at, pre, support_NK, self._rule)
        values, order = self.top(values)
        return self.op("GatherElements", support_NK, order, axis=1), values

    def refined(
        self, stream: str, at: _PreCodes, pre_NK: str, support_NK: str, rule: CodeRule
    ) -> str:
        """Positive codes, corrected by their rows' share of the residual."""
        codes = self.positive(pre_NK, rule.softness)
        if rule.refinements == 0:
            return codes
        rows_NKD = self.op("Gather", self.weight(stream, "dictionary_CD"), support_NK, axis=0)
        for _ in range(rule.refinements):
            left = self.op("Sub", at.centred_ND, self.combined(codes, rows_NKD))
            column = self.op("Unsqueeze", left, self.ints([2]))
            share = self.op("Squeeze", self.op("MatMul", rows_NKD, column), self.ints([2]))
            step = self.op("Mul", share, self.floats(rule.refine_rate))
            pre_NK = self.op("Add", pre_NK, step)
            codes = self.positive(pre_NK, rule.softness)
        return codes

    def positive(self, x_NK: str, softness: float) -> str:
        """softness · softplus(x / softness)."""
        scaled = self.op("Softplus", self.op("Div", x_NK, self.floats(softness)))
        return self.op("Mul", scaled, self.floats(softness))

    def combined(self, values_NK: str, rows_NKD: str) -> str:
        """Sum of each item's rows, weighted [N, D]."""
        codes_N1K = self.op("Unsqueeze", values_NK, self.ints([1]))
        return self.op("Squeeze", self.op("MatMul", codes_N1K, rows_NKD), self.ints([1]))

    def unit(self, rows_ND: str) -> str:
        """Rows brought to unit norm."""
        norm = self.op("ReduceL2", rows_ND, self.ints([1]), keepdims=1)
        return self.op("Div", rows_ND, self.op("Add", norm, self.floats(UNIT_NORM_EPS)))

    def linear(self, stream: str, x_ND: str, weight: str, bias: str) -> str:
        """x · weightᵀ + bias."""
        tensors = (self.weight(stream, weight), self.weight(stream, bias))
        return self.op("Gemm", x_ND, *tensors, transB=1)

    def fvu(self, stream: str, u_ND: str, indices_NK: str, values_NK: str) -> str:
        """Each item's fraction of variance unexplained [N]."""
        rows_NKD = self.op("Gather", self.weight(stream, "dictionary_CD"), indices_NK, axis=0)
        z_hat = self.op(
            "Add", self.combined(values_NK, rows_NKD), self.weight(stream, "pre_bias_D")
        )
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
        """A tensor of the shared weights file, in float32."""
        name = f"{stream}.{field}"
        self._tensors[name] = self._stored[name]
        if self._stored[name].data_type == TensorProto.FLOAT:
            return name
        if name not in self._widened:
            wide = self.op("Cast", name, to=TensorProto.FLOAT)
            if name + SCALES in self._stored:
                wide = self.op("Mul", wide, self.weight(stream, field + SCALES))
            self._widened[name] = wide
        return self._widened[name]

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
