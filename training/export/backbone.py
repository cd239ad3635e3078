"""Backbones as ONNX graphs that read raw pixels or token ids; loads no weights of its own."""

from __future__ import annotations

import logging
import shutil
import warnings
from pathlib import Path

import onnx
import onnx_ir
import torch
from torch import nn
from torch.export import Dim

from koine.errors import ExportError
from koine.streams import ImagePreprocess, StreamSpec, TextPreprocess

OPSET = 20
EXTERNAL_ABOVE = 1_800_000_000
"""Bytes of weights beyond which they go to a file of their own: protobuf ends at 2 GiB."""
_SAMPLE = 2
"""Items in the example batch; the exporter would take 1 for a constant."""


def export_module(module: nn.Module, spec: StreamSpec, path: Path, output: str = "acts") -> None:
    """Writes `module` as an ONNX graph at `path`, batch (and text length) free.

    Images: input `image` uint8 [N, H, W, 3]. Texts: `input_ids` and `attention_mask` int64
    [N, T]. Output: `acts` float32 [N, D], or under the name of `output`. Raises `ExportError`
    where torch cannot export.
    """
    args, names, shapes = _signature(spec)
    module = module.eval()
    try:
        with warnings.catch_warnings(), torch.no_grad(), _quiet():
            for message in _EXPECTED:
                warnings.filterwarnings("ignore", message=message)
            program = torch.onnx.export(
                module,
                args,
                dynamo=True,
                input_names=names,
                output_names=[output],
                dynamic_shapes=shapes,
                opset_version=OPSET,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        cause = error.__cause__ or error
        reason = str(cause).splitlines()[0]
        raise ExportError(
            f"torch cannot export the backbone of stream `{spec.name}`: {reason}; give the encoder "
            "as an ONNX file instead"
        ) from error
    assert program is not None
    _save(program.model, path)


def copy_onnx(source: Path, path: Path) -> None:
    """Copies an ONNX file whose inputs and output already have the artifact's names and types."""
    shutil.copyfile(source, path)


def _signature(
    spec: StreamSpec,
) -> tuple[tuple[torch.Tensor, ...], list[str], tuple[dict[int, Dim], ...]]:
    batch = Dim("N", min=1, max=4096)
    if isinstance(spec.preprocess, ImagePreprocess):
        side = spec.preprocess.crop_size
        images = torch.randint(0, 256, (_SAMPLE, side, side, 3), dtype=torch.uint8)
        return (images,), ["image"], ({0: batch},)
    assert isinstance(spec.preprocess, TextPreprocess)
    length = spec.preprocess.context_length
    axes = {0: batch}
    if not spec.preprocess.fixed_length:
        axes[1] = Dim("T", min=2, max=length)
        length = min(length, 7)
    ids = torch.ones((_SAMPLE, length), dtype=torch.int64)
    return (ids, torch.ones_like(ids)), ["input_ids", "attention_mask"], (axes, dict(axes))


def _save(model: onnx_ir.Model, path: Path) -> None:
    """Writes the graph without the tracer's notes, which name files of this machine."""
    for graph in model.graphs():
        graph.metadata_props.clear()
        graph.doc_string = None
        for node in graph.all_nodes():
            node.metadata_props.clear()
            node.doc_string = None
        for value in (*graph.inputs, *graph.outputs):
            value.metadata_props.clear()
    model.metadata_props.clear()
    weights = model.graph.initializers.values()
    size = sum(w.const_value.nbytes for w in weights if w.const_value is not None)
    data = f"{path.name}.data" if size > EXTERNAL_ABOVE else None
    onnx_ir.save(model, path, external_data=data)
    onnx.checker.check_model(str(path))


class _quiet:
    """Silences the exporter's log of its own passes."""

    def __enter__(self) -> None:
        self._levels = {name: logging.getLogger(name).level for name in _LOGGERS}
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.ERROR)

    def __exit__(self, *exc: object) -> None:
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)


_EXPECTED = (
    "# The axis name: . will not be used",  # two inputs share the batch axis: as meant
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # inside torch's exporter
)
_LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir")
