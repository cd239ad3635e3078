"""Which layers of a graph lose most by quantisation, and how few must stay in float32."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx

from training.export.inner import Inputs, inner_values

_READ = "_DequantizeLinear_Output"
"""What ONNX Runtime's quantiser appends to the name of a tensor that was rounded."""


def harm(
    full: Path, small: Path, found: Sequence[str], batches: Iterable[Inputs]
) -> dict[str, float]:
    """What each layer adds to the relative squared error, from one run of both graphs.

    Its output's error in `small`, relative to `full` and as the next layer reads it, less its
    input's.
    """
    graphs = [onnx.load(path, load_external_data=False).graph for path in (full, small)]
    made = {name for node in graphs[1].node for name in node.output}
    users = {name: node for node in graphs[0].node for name in node.input}
    ends: dict[str, tuple[str, str]] = {}
    for node in graphs[0].node:
        if node.name in found:
            after = node.output[0]
            while after not in made:  # quantised layers take their activation function in
                after = users[after].output[0]
            ends[node.name] = (node.input[0], after)
    names = sorted({name for pair in ends.values() for name in pair if name in made})
    read = [name + _READ if name + _READ in made else name for name in names]
    error, size = np.zeros(len(names)), np.zeros(len(names))
    batches = list(batches)
    runs = (inner_values(full, names, batches), inner_values(small, read, batches))
    for wanted, got in zip(*runs, strict=True):
        for i, pair in enumerate(zip(wanted.values(), got.values(), strict=True)):
            error[i] += np.square(pair[1] - pair[0]).sum()
            size[i] += np.square(pair[0]).sum()
    relative = dict(zip(names, (error / np.maximum(size, 1e-12)).tolist(), strict=True))
    return {layer: relative[b] - relative.get(a, 0.0) for layer, (a, b) in ends.items()}


def fewest_kept(
    worst_first: Sequence[str], write: Callable[[Sequence[str]], float], least: float
) -> int:
    """How many of the first layers must stay in float32 for `write` to give at least `least`.

    `write` writes the graph with the layers given kept and returns its Jaccard; it is asked about
    log2 of the layers. The graph written last is the answer.
    """
    low, high = 1, len(worst_first)
    while low < high:
        middle = (low + high) // 2
        if write(worst_first[:middle]) >= least:
            high = middle
        else:
            low = middle + 1
    write(worst_first[:low])
    return low
