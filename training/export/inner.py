"""Tensors inside a graph as it runs on items; keeps no graph and decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import TensorProto, helper

from koine.sessions import CPU, Session

Inputs = Mapping[str, np.ndarray]


def inner_values(
    graph: Path, names: Sequence[str], batches: Iterable[Inputs]
) -> Iterator[dict[str, np.ndarray]]:
    """The float32 tensors `names` of `graph`, a batch at a time."""
    model = onnx.load(graph)
    known = {value.name for value in model.graph.output}
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in dict.fromkeys(names)
        if name not in known
    )
    with TemporaryDirectory() as folder:
        path = Path(folder) / "inner.onnx"
        onnx.save(model, path)
        session = Session(path, [CPU])
    for batch in batches:
        found = session.run(batch)
        yield {name: found[name] for name in names}
