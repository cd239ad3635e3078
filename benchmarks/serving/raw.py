"""The baseline: ONNX Runtime in a bare loop over the same files and graphs, without a service.

`python -m benchmarks.serving.raw CASE` reads `{"batch": 8, "seconds": 5}` from its input, a line
each, and prints `{"rate": items a second, "latency_s": median of a batch}`. One thread, one
process: decode, preprocess or tokenize, backbone, head.
"""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.serving.cases import CASES, Case
from benchmarks.serving.cores import SERVER_CORE, on_core
from benchmarks.serving.samples import Sample
from benchmarks.serving.server import ROOT, environment
from koine.artifact import Artifact
from koine.images import MAX_PIXELS, decode_image, preprocess_image
from koine.manifest import ArtifactStream
from koine.sessions import CPU, Session
from koine.streams import ImagePreprocess, TextPreprocess
from koine.texts import Tokenizer
from koine.types import ActsND, ImagesNHWC


class Rate(NamedTuple):
    """What the loop reached."""

    rate: float
    """Items a second."""
    latency_s: float
    """Median of one batch."""


class Raw:
    """A running loop, idle until it is asked."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.memory_pid = process.pid

    def rate(self, batch: int, seconds: float) -> Rate:
        """Runs batches of that size for so long."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"batch": batch, "seconds": seconds}) + "\n")
        self._process.stdin.flush()
        return Rate(**json.loads(self._process.stdout.readline()))

    def best_batch(self, batches: Sequence[int], seconds: float) -> int:
        """The batch size with the highest rate."""
        return max(batches, key=lambda batch: self.rate(batch, seconds).rate)


@contextmanager
def raw_loop(case: Case) -> Iterator[Raw]:
    """The loop in a process of its own on the server's core."""
    command = [sys.executable, "-m", "benchmarks.serving.raw", case.name]
    kept = {n: v for n, v in environment(Path("/nonexistent"), {}).items() if n != "BENTOML_HOME"}
    with on_core(SERVER_CORE):
        process = subprocess.Popen(
            command, cwd=ROOT, env=kept | {"KOINE_BENCH_ARTIFACT": str(case.artifact())},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
    try:
        yield Raw(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(30)


class Stream:
    """One stream's graphs."""

    def __init__(self, folder: Path, stream: ArtifactStream) -> None:
        self.spec = stream.spec
        self._head = Session(folder / stream.head, [CPU], threads=1)
        self._backbone = None
        if stream.backbone is not None:
            self._backbone = Session(folder / stream.backbone, [CPU], threads=1)
        self._tokenizer = None
        if isinstance(stream.spec.preprocess, TextPreprocess):
            self._tokenizer = Tokenizer(stream.spec.preprocess, folder)

    def reads(self, sample: Sample) -> bool:
        """Whether the sample goes this way."""
        if self._backbone is None:
            return self.spec.name in sample.activations
        given = sample.text if self.spec.modality == "text" else sample.image
        return given is not None

    def encode(self, samples: Sequence[Sample], pixels: Pixels) -> dict[str, np.ndarray]:
        """Codes of samples that it reads."""
        return self._head.run({"acts": self._acts(samples, pixels)})

    def _acts(self, samples: Sequence[Sample], pixels: Pixels) -> ActsND:
        if self._backbone is None:
            return np.stack([sample.activations[self.spec.name] for sample in samples])
        if self._tokenizer is not None:
            tokens = self._tokenizer([sample.text or "" for sample in samples])
            inputs = {"input_ids": tokens.ids_NT, "attention_mask": tokens.mask_NT}
            return self._backbone.run(inputs)["acts"]
        assert isinstance(self.spec.preprocess, ImagePreprocess)
        return self._backbone.run({"image": pixels.of(self.spec.preprocess)})["acts"]


class Pixels:
    """A batch's images, decoded once for all streams and resized once for those that agree."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        files = [sample.image for sample in samples if sample.image is not None]
        self._decoded = [decode_image(file, max_pixels=MAX_PIXELS) for file in files]
        self._made: dict[ImagePreprocess, ImagesNHWC] = {}

    def of(self, spec: ImagePreprocess) -> ImagesNHWC:
        """What a backbone with that preprocessing reads."""
        if spec not in self._made:
            self._made[spec] = np.stack([preprocess_image(one, spec) for one in self._decoded])
        return self._made[spec]


def measure(
    streams: Sequence[Stream], samples: Sequence[Sample], *, batch: int, seconds: float
) -> Rate:
    """Batches one after the other."""
    endless = itertools.cycle(samples)
    taken_s: list[float] = []
    start = time.perf_counter()
    while (begun := time.perf_counter()) - start < seconds or not taken_s:
        chosen = [next(endless) for _ in range(batch)]
        pixels = Pixels(chosen)
        for stream in streams:
            stream.encode(chosen, pixels)
        taken_s.append(time.perf_counter() - begun)
    return Rate(batch * len(taken_s) / sum(taken_s), statistics.median(taken_s))


def main(name: str) -> None:
    """Answer the lines of the standard input."""
    case = CASES[name]
    artifact = Artifact.open(case.artifact())
    samples = case.samples()
    loaded = [Stream(artifact.path, one) for one in artifact.manifest.streams]
    streams = [stream for stream in loaded if stream.reads(samples[0])]
    measure(streams, samples, batch=1, seconds=0.0)
    for line in sys.stdin:
        print(json.dumps(measure(streams, samples, **json.loads(line))._asdict()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
