"""A table of codes to a file that a vector store reads, batch by batch; weighs nothing itself."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from koine.artifact import Artifact
from koine.errors import RequestError
from koine.manifest import PROFILE
from koine.offline import DIGEST, pyarrow
from koine.profile import read_profile
from koine.vectors import Item, Store, Weighting, lines, sparse_vector, weights

_COLUMNS = ("id", "stream", "indices", "values", "error")


class Written(NamedTuple):
    """What became of the items."""

    items: int
    failed: int
    """Those that `encode` had no codes of."""


def write_vectors(
    artifact: Artifact, codes: Path, out: Path, store: Store, weighting: Weighting = "l2"
) -> Written:
    """Writes the vectors of a table that `encode` wrote with this artifact.

    `out` appears when all is done. Raises `RequestError` for a table that is none, or another
    artifact's.
    """
    reading = _Reading(artifact, codes, weighting)
    part = out.with_name(f".{out.name}.tmp")
    try:
        with part.open("w", encoding="utf-8") as file:
            for line in lines(reading.items(), store, artifact.manifest.num_concepts):
                file.write(line + "\n")
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return Written(reading.found, reading.failed)


class _Reading:
    """The items of a table, counted as they go by."""

    def __init__(self, artifact: Artifact, path: Path, weighting: Weighting) -> None:
        self.found, self.failed = 0, 0
        self._path = path
        self._weighting: Weighting = weighting
        profile = read_profile(artifact.file(PROFILE))
        self._weights = {name: weights(p, weighting) for name, p in profile.streams.items()}
        self._table = _opened(path, artifact)

    def items(self) -> Iterator[Item]:
        """Consecutive rows of one id are one item."""
        for item, rows in groupby(self._rows(), key=lambda row: row["id"]):
            vectors = {
                row["stream"]: sparse_vector(
                    row["indices"], row["values"], self._of(row["stream"]), self._weighting
                )
                for row in rows
                if row["error"] is None
            }
            if vectors:
                self.found += 1
                yield Item(item, vectors)
            else:
                self.failed += 1

    def _rows(self) -> Iterator[dict[str, Any]]:
        for batch in self._table.iter_batches(columns=list(_COLUMNS)):
            yield from batch.to_pylist()

    def _of(self, stream: str) -> Any:
        if stream not in self._weights:
            raise RequestError(
                f"{self._path} has codes of stream {stream!r}, which the artifact does not have; "
                f"it has {', '.join(self._weights)}"
            )
        return self._weights[stream]


def _opened(path: Path, artifact: Artifact) -> Any:
    arrow, parquet = pyarrow()
    try:
        table = parquet.ParquetFile(path)
    except (arrow.ArrowException, OSError) as error:
        raise RequestError(
            f"{path} is no Parquet table ({error}); give what `python -m koine encode` wrote"
        ) from error
    missing = [name for name in _COLUMNS if name not in table.schema_arrow.names]
    if missing:
        raise RequestError(f"{path} lacks the columns {', '.join(missing)}: `encode` wrote it not")
    noted: dict[bytes, bytes] = table.schema_arrow.metadata or {}
    made_by = noted.get(DIGEST.encode(), b"").decode()
    if made_by and made_by != artifact.digest:
        raise RequestError(
            f"{path} was encoded by another artifact (sha256:{made_by[:12]}…, not "
            f"{artifact.manifest.title}, sha256:{artifact.digest[:12]}…): its concepts are others; "
            "give that artifact, or encode again"
        )
    return table
