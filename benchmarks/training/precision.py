"""How much faster an artifact's backbones are in fewer bits, or as students; judges no fidelity.

`python -m benchmarks.training.precision FULL SMALL` prints entries: two artifacts of one
dictionary, their backbones one at a time, in turns within one process. Fidelity stands in SMALL's
manifest. Made images and texts serve: convolutions and products take the same time for any.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.entry import Entry, entry
from koine.artifact import Artifact
from koine.encoder import ConceptEncoder
from koine.sessions import CPU
from koine.texts import Tokens
from koine.types import ImagesNHWC
from training.export.fidelity import speed_ratio
from training.export.precision import backbone_file
from training.export.samples import sample_images, sample_texts

TARGET = 1.8
LOADS = ((1, 1), (8, 1), (32, 1), (1, 2), (8, 2), (32, 2))
"""Batch and threads."""


def entries(full: Artifact, small: Artifact) -> Iterator[Entry]:
    """One for each backbone that both have, and each load; `ratio` is the full one's time over."""
    encoder = ConceptEncoder(full, providers=[CPU])
    for stream in full.manifest.streams:
        name, other = stream.spec.name, small.manifest.stream(stream.spec.name)
        if stream.backbone is None or other is None or other.backbone is None:
            continue
        files = (backbone_file(full, name), backbone_file(small, name))
        for size, threads in LOADS:
            ratio = speed_ratio(*files, _batch(encoder, name, size), threads)
            yield entry(
                f"backbone_{name}_b{size}_t{threads}",
                ratio,
                1.0,
                ratio=ratio,
                target=TARGET,
                unit="times the full one's speed",
            )


def _batch(encoder: ConceptEncoder, name: str, size: int) -> ImagesNHWC | Tokens:
    if encoder.streams[name].modality == "text":
        return encoder.tokenize(name, sample_texts(["Two dogs run along a beach."], size))
    return np.stack([encoder.preprocess(name, image) for image in sample_images(size)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("full", type=Path)
    parser.add_argument("small", type=Path)
    given = parser.parse_args()
    pair = [Artifact.open(path, verify=False) for path in (given.full, given.small)]
    for found in entries(*pair):
        print(json.dumps(found))
