"""The tiny artifact with names on some concepts and a figure of one pair of streams."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path

from PIL import Image

from koine import manifest as m
from koine.artifact import Artifact, sha256_file
from koine.concepts import Concept, Evidence, Exemplar, read_concepts, write_concepts

LABELS = {3: "red Square", 7: "DOG on grass", 8: "dog", 40: "Straße"}
FVU = {"independent.fvu.tiny_a->tiny_text": 0.375, "joint.fvu.tiny_b->tiny_text": 0.25}
CARD = {
    "purity": {"tiny_a": 0.75},
    "nearest": (8, 3),
    "evidence": (
        Evidence(route="direction", stream="tiny_text", term="a hound", score=0.4),
        Evidence(route="firing", stream="tiny_a", term="square lawn", score=0.3),
    ),
    "exemplars": (
        Exemplar(item="one", stream="tiny_a", value=1.5, caption="a dog", thumbnail="0.jpg"),
        Exemplar(item="two", stream="tiny_a", value=1.25),
        Exemplar(item="three", stream="tiny_b", value=1, caption="packed", thumbnail="packed.jpg"),
        Exemplar(item="four", stream="tiny_b", value=1, caption="gone", thumbnail="none.jpg"),
    ),
}
"""What concept 7 has beside its label."""


def labelled(artifact: Artifact, folder: Path) -> Artifact:
    """A copy in `folder`."""
    shutil.copytree(artifact.path, folder)
    concepts = [_named(concept) for concept in read_concepts(folder / m.CONCEPTS)]
    write_concepts(folder / m.CONCEPTS, concepts)
    with zipfile.ZipFile(folder / m.EXEMPLARS, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("0.jpg", jpeg())
        archive.writestr("packed.jpg", jpeg(), zipfile.ZIP_DEFLATED)
    written = {name: _entry(folder / name) for name in (m.CONCEPTS, m.EXEMPLARS)}
    manifest = artifact.manifest.model_copy(
        update={
            "files": artifact.manifest.files | written,
            "metrics": artifact.manifest.metrics | FVU,
        }
    )
    (folder / m.MANIFEST).write_text(manifest.model_dump_json())
    return Artifact.open(folder)


def jpeg() -> bytes:
    """A small picture."""
    out = io.BytesIO()
    Image.new("RGB", (32, 32), (40, 120, 60)).save(out, "JPEG")
    return out.getvalue()


def _entry(path: Path) -> m.FileEntry:
    return m.FileEntry(sha256=sha256_file(path), bytes=path.stat().st_size)


def _named(concept: Concept) -> Concept:
    if concept.id not in LABELS:
        return concept
    named = {"label": LABELS[concept.id], "status": "proposed", "score": 0.5, "source": "direction"}
    return concept.model_copy(update=named | (CARD if concept.id == 7 else {}))
