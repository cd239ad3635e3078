"""An artifact in fewer bits: which layers, how near it stays to float32, and whether it may leave.

Quantises each backbone of a float32 artifact, keeps layers in float32 where supports would change
too much, and measures on held-out items. Knows graphs by path only; trains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np

from koine.artifact import Artifact
from koine.codes import Codes
from koine.encoder import ConceptEncoder
from koine.sessions import CPU
from koine.types import ActsND
from training.activations.rows import Split
from training.activations.store import ActivationStore
from training.export import quantise as q
from training.export.artifact import ReferenceBatch
from training.export.examples import BATCH, Examples
from training.export.fidelity import Batch, graph_acts, graph_inputs, support_jaccard
from training.export.head import Storage
from training.export.sensitivity import fewest_kept, harm

Kind = Literal["fp16", "int8"]
MIN_JACCARD: dict[Kind, float] = {"int8": 0.95, "fp16": 0.99}
STORAGE: dict[Kind, Storage] = {
    "fp16": dict.fromkeys(
        ("encoder_CD", "dictionary_CD", "selector.map_RD", "selector.prototypes_CR"), "float16"
    ),
    "int8": {
        "encoder_CD": "float16",
        "dictionary_CD": "int8",
        "selector.map_RD": "float16",
        "selector.prototypes_CR": "float16",
    },
}
"""What chooses supports keeps 16 bits; a dictionary's rows only rebuild and refine."""
PROFILE_ITEMS = 1024
"""Training items whose activations the small backbones compute anew for the profile."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PrecisionConfig:
    """What is asked of an export in fewer bits."""

    kind: Kind
    """fp16 stores weights in 16 bits; int8 also computes in 8."""
    min_jaccard: float | None = None
    """Least support Jaccard to float32 on held-out items, each stream; None: by kind."""
    calibration: q.Calibration = "percentile"
    """How ranges of convolutions' activations follow from those seen; products: least and most."""
    calibrate_on: int = 48
    """Training items that ranges come from."""
    search_on: int = 192
    """Further training items on which layers are chosen that stay in float32, if any must."""
    measure_on: int = 256
    """Held-out items that the gate compares."""

    def __post_init__(self) -> None:
        if not 0 <= self.at_least <= 1:
            raise ValueError(f"`min_jaccard` lies in 0..1, got {self.at_least}")
        if min(self.calibrate_on, self.search_on, self.measure_on) < 1:
            raise ValueError("`calibrate_on`, `search_on` and `measure_on` must be above 0")

    @property
    def at_least(self) -> float:
        """`min_jaccard`, or the kind's own."""
        return MIN_JACCARD[self.kind] if self.min_jaccard is None else self.min_jaccard


class Lowering:
    """Makes the backbones of one float32 artifact smaller."""

    def __init__(self, full: Artifact, examples: Examples, config: PrecisionConfig) -> None:
        self._full, self._examples, self._config = full, examples, config
        self._encoder = ConceptEncoder(full, providers=[CPU])
        self.methods: dict[str, str] = {}
        """In words, by stream, once its backbone is written."""

    def writers(self) -> dict[str, Callable[[Path], None]]:
        """What writes the smaller backbone of each stream that has one."""
        streams = (s.spec.name for s in self._full.manifest.streams if s.backbone)
        return {name: partial(self._write, name) for name in streams}

    def _write(self, name: str, path: Path) -> None:
        source = backbone_file(self._full, name)
        if self._config.kind == "fp16":
            q.halve(source, path)
            self.methods[name] = "weights stored in fp16"
            return
        with TemporaryDirectory() as folder:
            self.methods[name] = self._quantise(name, source, Path(folder), path)
        q.halve(path, path)

    def _quantise(self, name: str, source: Path, folder: Path, path: Path) -> str:
        config = self._config
        ready = q.prepared(source, folder / "prepared.onnx")
        seen = list(self._examples.batches(name, "train", config.calibrate_on + config.search_on))
        first = -(-config.calibrate_on // BATCH)
        calibrating, searched = seen[:first], seen[first:] or seen
        batches = [graph_inputs(batch) for batch in calibrating]
        quantiser = q.Quantiser(ready, folder, batches, config.calibration)
        wanted = self._codes(name, graph_acts(ready, searched))

        def write(keep: Sequence[str]) -> float:
            quantiser.write(path, keep)
            self._correct(ready, path, calibrating)
            return support_jaccard(wanted, self._codes(name, graph_acts(path, searched)))

        choice = [layer for layer in quantiser.layers if layer not in quantiser.always_kept]
        kept = 0
        if write(()) < config.at_least and choice:
            harms = harm(ready, path, choice, [graph_inputs(batch) for batch in searched])
            kept = fewest_kept(sorted(choice, key=lambda k: -harms[k]), write, config.at_least)
        total = len(quantiser.layers)
        return f"int8, {len(choice) - kept} of {total} layers, {quantiser.ranges} ranges"

    def _correct(self, ready: Path, path: Path, seen: Sequence[Batch]) -> None:
        """Brings each activation's mean over the items back to float32's."""
        offset_D = (graph_acts(ready, seen) - graph_acts(path, seen)).mean(0)
        q.correct(path, offset_D)

    def _codes(self, name: str, acts_ND: ActsND) -> Codes:
        return self._encoder.encode({name: acts_ND})[name]


def backbone_file(artifact: Artifact, name: str) -> Path:
    """Where a stream's graph lies."""
    stream = artifact.manifest.stream(name)
    assert stream is not None
    assert stream.backbone is not None
    return artifact.path / stream.backbone


def profile_batches(
    folder: Path, artifact: Artifact, examples: Examples, store: ActivationStore, split: Split
) -> Iterator[ReferenceBatch]:
    """A split's activations by the graphs in `folder`, one stream at a time.

    Streams without a backbone give those of the store.
    """
    widths = {s.spec.name: s.spec.d_in for s in artifact.manifest.streams}
    for stream in artifact.manifest.streams:
        name = stream.spec.name
        if stream.backbone is None:
            acts_ND = stored_acts(store, name, store.split(split)[:PROFILE_ITEMS])
        else:
            batches = examples.batches(name, split, PROFILE_ITEMS)
            acts_ND = graph_acts(folder / stream.backbone, batches)
        yield one_stream(name, acts_ND, widths)


def one_stream(name: str, acts_ND: ActsND, widths: Mapping[str, int]) -> ReferenceBatch:
    """A batch of items that have this stream alone."""
    present_NS = np.zeros((len(acts_ND), len(widths)), bool)
    present_NS[:, list(widths).index(name)] = True
    empty = {other: np.zeros((len(acts_ND), d_in), np.float32) for other, d_in in widths.items()}
    return ReferenceBatch(empty | {name: acts_ND}, present_NS)


def stored_acts(store: ActivationStore, name: str, rows_N: np.ndarray) -> ActsND:
    """Activations out of the store, of the rows that have the stream."""
    acts, present_NS = store.gather(rows_N)
    return acts[name][present_NS[:, list(acts).index(name)]]
