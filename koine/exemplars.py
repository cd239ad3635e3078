"""The pictures of an artifact's exemplars, read from one archive; makes and shows none."""

from __future__ import annotations

import zipfile
from pathlib import Path

from koine.artifact import Artifact
from koine.errors import ArtifactError
from koine.manifest import EXEMPLARS

MOST_BYTES = 2**20
"""Of one thumbnail."""
_JPEG = b"\xff\xd8\xff"


class Exemplars:
    """`exemplars.zip`, open: an artifact that is replaced keeps its pictures. `close` it."""

    def __init__(self, path: Path) -> None:
        """Raises `ArtifactError`."""
        self._path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise ArtifactError(f"{path} is no archive ({error}); export the run again") from error

    @classmethod
    def of(cls, artifact: Artifact) -> Exemplars | None:
        """Those of an artifact, None where it has none. Raises `ArtifactError`."""
        if EXEMPLARS not in artifact.manifest.files:
            return None
        return cls(artifact.file(EXEMPLARS))

    def thumbnail(self, name: str) -> bytes:
        """A JPEG by its name. Raises `ArtifactError` for what is missing, packed, too large or no
        JPEG: nothing is unpacked, so nothing grows."""
        try:
            entry = self._archive.getinfo(name)
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > MOST_BYTES:
                raise ArtifactError(
                    f"{name!r} in {self._path} is packed or larger than {MOST_BYTES} bytes; "
                    "name the concepts again"
                )
            data = self._archive.read(entry)
        except (KeyError, OSError, zipfile.BadZipFile, RuntimeError, ValueError) as error:
            raise ArtifactError(
                f"{name!r} cannot be read from {self._path} ({error}); name the concepts again"
            ) from error
        if not data.startswith(_JPEG):
            raise ArtifactError(f"{name!r} in {self._path} is no JPEG; name the concepts again")
        return data

    def close(self) -> None:
        """Closes the archive."""
        self._archive.close()
