"""Backbones in fewer bits and students: supports kept against speed; serves no artifact.

`python -m benchmarks.training.precision RUN FULL --data DATA [--student RUN2 …]` measures every
variant of every backbone of the float32 artifact FULL, one at a time, in turns with float32 within
one process. Merges into results/precision.json and draws results/precision.png; `--plot` draws
again what was measured. The last variants are what `export` no longer does, for comparison.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import matplotlib
import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from benchmarks.entry import Entry, entry
from benchmarks.report import FOLDER, merged
from koine.artifact import Artifact
from koine.codes import Codes
from koine.encoder import ConceptEncoder
from koine.sessions import CPU
from koine.texts import Tokens
from koine.types import ActsND
from training.activations.rows import Split
from training.distillation.students import LIST
from training.export.build import finished, load_encoders
from training.export.examples import Examples, held_out, source_of
from training.export.fidelity import (
    SPEED_BATCH,
    Batch,
    graph_acts,
    graph_inputs,
    speed_ratio,
    support_jaccard,
)
from training.export.precision import Lowering, PrecisionConfig, backbone_file
from training.export.quantise import body_of, prepared

RESULTS, PICTURE = (FOLDER / "results" / f"precision.{kind}" for kind in ("json", "png"))
ITEMS = 400
"""Held-out items at most whose supports are compared."""
LEAST, FASTER = 0.95, 1.8
"""What int8 is to reach: support Jaccard and float32's time over its own."""
LOADS = ((1, 1), (SPEED_BATCH, 1), (32, 1), (SPEED_BATCH, 2))
"""Items in a batch and threads."""
Write = Callable[[str, Path], None]
"""Writes a stream's backbone at a path."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A float32 artifact and the items to compare its backbones on."""

    full: Artifact
    examples: Examples
    split: Split

    def entries(self, streams: Collection[str]) -> Iterator[Entry]:
        """Jaccard and speed of every variant of these streams' backbones."""
        encoder = ConceptEncoder(self.full, providers=[CPU])
        for stream in self.full.manifest.streams:
            if stream.backbone is None or stream.spec.name not in streams:
                continue
            name, source = stream.spec.name, backbone_file(self.full, stream.spec.name)
            batches = list(self.examples.batches(name, self.split, ITEMS))
            wanted = _codes(encoder, name, graph_acts(source, batches))
            for variant, write in self._variants(source).items():
                with TemporaryDirectory() as folder:
                    path = Path(folder) / "small.onnx"
                    write(name, path)
                    got = _codes(encoder, name, graph_acts(path, batches))
                    kept = support_jaccard(wanted, got)
                    yield _entry(f"jaccard_{name}_{variant}", kept, LEAST, "support Jaccard")
                    yield from _speeds(f"{name}_{variant}", source, path, batches)
                    if variant == "int8":
                        with patch("koine.sessions.has_vnni", return_value=False):
                            yield from _speeds(f"{name}_no-vnni", source, path, batches)

    def _variants(self, source: Path) -> Mapping[str, Write]:
        made: dict[str, Write] = {
            "int8": self._lowered(PrecisionConfig(kind="int8")),
            "fp16": self._lowered(PrecisionConfig(kind="fp16")),
        }
        if body_of(source) == "convolutions":
            minmax = PrecisionConfig(kind="int8", min_jaccard=0, calibration="minmax")
            made["minmax"] = self._lowered(minmax)
            made |= {f"plain-{bits}": partial(self._plain, bits) for bits in (8, 7)}
        else:
            made |= {f"dynamic-{bits}": partial(self._dynamic, bits) for bits in (8, 7)}
            made["blocks"] = self._blocks
        return made

    def _lowered(self, config: PrecisionConfig) -> Write:
        writers = Lowering(self.full, self.examples, config).writers()
        return lambda name, path: writers[name](path)

    def _plain(self, bits: int, name: str, path: Path) -> None:
        """Every convolution, largest weights, biases as they were."""
        quantize_static(
            str(self._prepared(name, path)),
            str(path),
            _Reader(
                self.examples.batches(name, "train", PrecisionConfig(kind="int8").calibrate_on)
            ),
            op_types_to_quantize=["Conv", "Clip", "Relu", "Add"],
            per_channel=True,
            reduce_range=bits == 7,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibration_providers=[CPU],
        )

    def _dynamic(self, bits: int, name: str, path: Path) -> None:
        """Every product with weights, inputs ranged over the batch as it runs."""
        quantize_dynamic(
            str(self._prepared(name, path)),
            str(path),
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=bits == 7,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )

    def _blocks(self, name: str, path: Path) -> None:
        """Every product with weights, a scale for each 128 weights and each 128 inputs."""
        model = onnx.load(self._prepared(name, path))
        made = MatMulNBitsQuantizer(
            model, bits=8, block_size=128, is_symmetric=True, accuracy_level=4
        )
        made.process()
        onnx.save(made.model.model, path)  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]

    def _prepared(self, name: str, path: Path) -> Path:
        return prepared(backbone_file(self.full, name), path.with_name("prepared.onnx"))


class _Reader(CalibrationDataReader):
    def __init__(self, batches: Iterator[Batch]) -> None:
        self._left = batches

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._left, None)
        return None if batch is None else graph_inputs(batch)


def students(runs: Sequence[Path]) -> Iterator[Entry]:
    """What `distill` measured of the students in each run."""
    for run in runs:
        for stream, found in json.loads((run / LIST).read_bytes()).items():
            metrics, name = found["about"]["metrics"], f"{stream}_student-{found['size']}"
            yield _entry(f"jaccard_{name}", metrics["support_jaccard"], None, "support Jaccard")
            yield _entry(f"speed_{name}_b{SPEED_BATCH}_t1", metrics["speed"], None, _TIMES)


def plot(entries: Sequence[Entry], path: Path) -> None:
    """Jaccard over speed at a batch of 8 on one thread, a colour for each backbone.

    Left everything, right what lies near float32.
    """
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    ratios = {one["name"]: one["ratio"] for one in entries}
    points: dict[tuple[str, str], tuple[float, float]] = {}
    for name, kept in ratios.items():
        kind, _, rest = name.partition("_")
        stream, _, variant = rest.rpartition("_")
        if kind == "jaccard":
            points[stream, variant] = (ratios[f"speed_{rest}_b{SPEED_BATCH}_t1"], kept)
    streams = sorted({stream for stream, _ in points})
    figure, (whole, near) = plt.subplots(1, 2, figsize=(13, 6), layout="constrained")
    for axes in (whole, near):
        axes.axhline(LEAST, color="0.8", zorder=0)
        axes.axvline(FASTER, color="0.8", zorder=0)
        axes.scatter(1, 1, color="k", marker="s", label="fp32")
        for i, stream in enumerate(streams):
            mine = [place for (other, _), place in points.items() if other == stream]
            axes.scatter(*zip(*mine, strict=True), color=f"C{i}", s=30, label=stream)
        axes.set_xlabel("speed of the backbone, batch of 8, one thread (fp32 = 1)")
        axes.xaxis.set_major_formatter("{x:g}×")
    for i, stream in enumerate(streams):
        for (other, variant), place in points.items():
            axes = whole if variant.startswith("student") else near
            if other == stream:
                axes.annotate(
                    variant, place, xytext=(6, 4 - 9 * (i % 2)), textcoords="offset points",
                    fontsize=8, color=f"C{i}", weight="bold" if variant == "int8" else None,
                )  # fmt: skip
    whole.set_xscale("log", base=2)
    whole.xaxis.set_major_formatter("{x:g}×")
    whole.set_xlim(right=2 * max(faster for faster, _ in points.values()))
    whole.set_ylabel("support Jaccard to fp32, held-out items")
    whole.legend(loc="lower left")
    quantised = [place for (_, name), place in points.items() if not name.startswith("student")]
    near.set_ylim(min(kept for _, kept in quantised) - 0.01, 1.01)
    near.set_xlim(0.8, max(faster for faster, _ in quantised) + 0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


_TIMES = "times the full one's speed"


def _speeds(name: str, source: Path, path: Path, batches: Sequence[Batch]) -> Iterator[Entry]:
    for size, threads in LOADS:
        ratio = speed_ratio(source, path, _first(batches, size), threads)
        yield _entry(f"speed_{name}_b{size}_t{threads}", ratio, FASTER, _TIMES)


def _entry(name: str, ratio: float, target: float | None, unit: str) -> Entry:
    return entry(name, ratio, 1.0, ratio=ratio, target=target, unit=unit)


def _first(batches: Sequence[Batch], size: int) -> Batch:
    """The first items, again and again where there are not as many in the first batch."""
    first = batches[0]
    if isinstance(first, Tokens):
        rows = [i % len(first.ids_NT) for i in range(size)]
        return Tokens(first.ids_NT[rows], first.mask_NT[rows])
    return first[[i % len(first) for i in range(size)]]


def _codes(encoder: ConceptEncoder, name: str, acts_ND: ActsND) -> Codes:
    return encoder.encode({name: acts_ND})[name]


def main() -> None:
    """Measure, keep, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("full", type=Path, nargs="?")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--encoders", type=Path)
    parser.add_argument("--stream", nargs="*", help="of these alone; default: all")
    parser.add_argument("--student", type=Path, nargs="*", default=[])
    parser.add_argument("--plot", action="store_true")
    given = parser.parse_args()
    if not given.plot:
        run = finished(given.run)
        specs = {spec.name: spec for spec in run.store.streams}
        encoders = load_encoders(specs, run.record["recipe"], given.encoders)
        bench = Bench(
            full=Artifact.open(given.full, verify=False),
            examples=Examples(run.store, encoders, source_of(given.data, None)),
            split=held_out(run.store),
        )
        found: list[Entry] = []
        chosen = given.stream or list(specs)
        for one in chain(students(given.student), bench.entries(chosen)):
            print(f"{one['name']} {one['ratio']:.3f}", flush=True)
            found.append(one)
        old = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
        RESULTS.write_text(json.dumps(merged(old, found), indent=2) + "\n")
    plot(json.loads(RESULTS.read_text()), PICTURE)


if __name__ == "__main__":
    main()
