"""How strong the codes of nonsense are, below which a text means no concept; knows no image."""

from __future__ import annotations

import math
import random
from pathlib import Path
from string import ascii_lowercase

import numpy as np

from koine.artifact import Artifact
from koine.concepts import read_concepts
from koine.encoder import ConceptEncoder
from koine.manifest import CONCEPTS, PROFILE, ArtifactStream
from koine.profile import read_profile
from koine.sessions import CPU
from training.export.artifact import write_manifest

TEXTS = 200
SHARE = 0.95
"""Of the nonsense that is told from texts that mean something."""
_BATCH = 50


def nonsense_texts(count: int = TEXTS) -> list[str]:
    """One to six words of random letters each, always the same."""
    draw = random.Random(0)

    def word() -> str:
        return "".join(draw.choice(ascii_lowercase) for _ in range(draw.randint(3, 9)))

    return [" ".join(word() for _ in range(draw.randint(1, 6))) for _ in range(count)]


def write_nonsense_values(folder: Path, artifact: Artifact) -> Artifact:
    """Measures each text stream that has a backbone, and writes the manifest in `folder` anew."""
    encoder = ConceptEncoder(artifact, providers=[CPU])

    def measured(stream: ArtifactStream) -> ArtifactStream:
        if stream.spec.modality != "text" or stream.backbone is None:
            return stream
        value = _value(encoder, stream.spec.name)
        return stream.model_copy(update={"nonsense_value": value})

    streams = tuple(measured(stream) for stream in artifact.manifest.streams)
    manifest = artifact.manifest.model_copy(update={"streams": streams})
    profile = read_profile(folder / PROFILE).streams
    write_manifest(folder, manifest, profile, read_concepts(folder / CONCEPTS))
    return Artifact.open(folder)


def _value(encoder: ConceptEncoder, stream: str) -> float:
    texts = nonsense_texts()
    strongest: list[float] = []
    for start in range(0, len(texts), _BATCH):
        tokens = encoder.tokenize(stream, texts[start : start + _BATCH])
        codes = encoder.encode({stream: encoder.activations(stream, tokens)})[stream]
        strongest += codes.values_NK.max(1).tolist()
    return math.ceil(float(np.quantile(strongest, SHARE)) * 1e4) / 1e4
