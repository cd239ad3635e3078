"""The tiny artifact with names on some concepts and a figure of one pair of streams."""

from __future__ import annotations

import shutil
from pathlib import Path

from koine import manifest as m
from koine.artifact import Artifact, sha256_file
from koine.concepts import Concept, read_concepts, write_concepts

LABELS = {3: "red Square", 7: "DOG on grass", 8: "dog", 40: "Straße"}
FVU = {"independent.fvu.tiny_a->tiny_text": 0.375, "joint.fvu.tiny_b->tiny_text": 0.25}


def labelled(artifact: Artifact, folder: Path) -> Artifact:
    """A copy in `folder`."""
    shutil.copytree(artifact.path, folder)
    concepts = [_named(concept) for concept in read_concepts(folder / m.CONCEPTS)]
    write_concepts(folder / m.CONCEPTS, concepts)
    entry = m.FileEntry(
        sha256=sha256_file(folder / m.CONCEPTS), bytes=(folder / m.CONCEPTS).stat().st_size
    )
    manifest = artifact.manifest.model_copy(
        update={
            "files": artifact.manifest.files | {m.CONCEPTS: entry},
            "metrics": artifact.manifest.metrics | FVU,
        }
    )
    (folder / m.MANIFEST).write_text(manifest.model_dump_json())
    return Artifact.open(folder)


def _named(concept: Concept) -> Concept:
    if concept.id not in LABELS:
        return concept
    named = {"label": LABELS[concept.id], "status": "proposed", "score": 0.5, "source": "direction"}
    return concept.model_copy(update=named)
