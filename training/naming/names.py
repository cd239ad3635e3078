"""RUN/names: the names of a run's concepts as files; finds none itself.

concepts.jsonl   one concept a line, as in the artifact but for its rates
exemplars.zip    thumbnails; missing where there are none
names.json       what they were made with, written last: the names are whole
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, ValidationError

from koine.artifact import sha256_file
from koine.concepts import Concept, read_concepts, write_concepts
from koine.errors import ExportError
from koine.manifest import CONCEPTS, EXEMPLARS
from koine.streams import Spec
from training.activations.files import fsync_file, fsync_folder, write_atomic
from training.checkpoint import MODEL

NAMES = "names"
RECORD = "names.json"


class NamesRecord(Spec):
    """`names.json`: everything that decides the names, and the hashes of their files."""

    schema_version: Literal["koine.names/1"] = Field(default="koine.names/1")
    weights: str
    """`sha256:` of the run's weights."""
    store: str
    """`sha256:` of the activation store's `store.json`."""
    vocabulary: str
    """`sha256:` of the listed terms."""
    settings: dict[str, Any]
    """The `NamingConfig`, and where thumbnails were made, what of."""
    files: dict[str, str] = {}
    """File → SHA-256."""

    def same_but_files(self, other: NamesRecord) -> bool:
        """Whether both would give the same names."""
        return self.model_copy(update={"files": {}}) == other.model_copy(update={"files": {}})


class Names(NamedTuple):
    """What a run's concepts are called."""

    record: NamesRecord
    concepts: list[Concept]
    thumbnails: Path | None


def fingerprint(run: Path) -> str:
    """`sha256:` of a run's weights."""
    return f"sha256:{sha256_file(run / MODEL)}"


def finished(folder: Path, wanted: NamesRecord) -> bool:
    """Whether `folder` holds whole names made with just what `wanted` says."""
    found = _read_record(folder / RECORD)
    return found is not None and found.same_but_files(wanted) and not _damaged(folder, found)


def begin(folder: Path) -> None:
    """Makes the folder; names that lie there are no longer whole from now on."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (RECORD, EXEMPLARS, CONCEPTS):
        (folder / name).unlink(missing_ok=True)


def finish(folder: Path, concepts: Sequence[Concept], record: NamesRecord) -> None:
    """Writes the concepts and then, with everything on disk, the record."""
    write_concepts(folder / CONCEPTS, concepts)
    there = [folder / name for name in (CONCEPTS, EXEMPLARS) if (folder / name).is_file()]
    for path in there:
        fsync_file(path)
    fsync_folder(folder)
    whole = record.model_copy(update={"files": {path.name: sha256_file(path) for path in there}})
    write_atomic(folder / RECORD, (json.dumps(whole.model_dump(), indent=1) + "\n").encode())


def read_names(run: Path, folder: Path | None = None) -> Names | None:
    """The names of a run's weights in RUN/names or `folder`; None where RUN was not named.

    Raises ExportError where they are unfinished, damaged, or were made for other weights.
    """
    if folder is None and not (run / NAMES).is_dir():
        return None
    folder = folder or run / NAMES
    again = f"run `python -m training name {run}` again, or delete {folder}"
    record = _read_record(folder / RECORD)
    if record is None:
        raise ExportError(f"the names in {folder} are unfinished or damaged; {again}")
    if record.weights != (weights := fingerprint(run)):
        raise ExportError(
            f"the names in {folder} were made for other weights ({record.weights[:19]}, the run "
            f"has {weights[:19]}); {again}"
        )
    if damaged := _damaged(folder, record):
        raise ExportError(f"{folder / damaged} is not as `name` wrote it; {again}")
    zipped = folder / EXEMPLARS if EXEMPLARS in record.files else None
    return Names(record, read_concepts(folder / CONCEPTS), zipped)


def _read_record(path: Path) -> NamesRecord | None:
    try:
        return NamesRecord.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _damaged(folder: Path, record: NamesRecord) -> str | None:
    for name, digest in record.files.items():
        path = folder / name
        if not path.is_file() or sha256_file(path) != digest:
            return name
    return None if CONCEPTS in record.files else CONCEPTS
