"""Opens an artifact directory and refuses it when anything is not as its manifest says.

Reads and checks files; runs no graph. The manifest's fields are in `koine/manifest.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

from pydantic import ValidationError

from koine.errors import ArtifactError
from koine.files import sha256_file
from koine.manifest import FORMAT_VERSION, MANIFEST, FileEntry, Manifest

HUB = "hf://"
"""What a place on the Hugging Face hub begins with; `koine/hub.py` brings it here."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """An artifact directory whose files have been checked."""

    path: Path
    manifest: Manifest
    digest: str
    """SHA-256 of `manifest.json`: stands for every byte of the artifact."""
    source: str | None = None
    """`hf://owner/name@commit` where it was fetched from the hub."""

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, verify: bool = True) -> Artifact:
        """Opens the directory at `path`, or fetches it first where that is `hf://owner/name`.

        `verify=False` skips the hashes (sizes and names are still checked). Raises
        `ArtifactError` for an unknown version or key, a changed, missing, extra or linked file.
        """
        root, source = local(path)
        if not root.is_dir():
            what = "is a file, not a directory" if root.exists() else "does not exist"
            raise ArtifactError(f"{root} {what}; give the directory that `export` wrote")
        raw = _manifest_bytes(root)
        manifest = _parse(root, raw)
        _check_listing(root, manifest)
        for name, entry in manifest.files.items():
            _check_file(root, name, entry, verify)
        return cls(root, manifest, hashlib.sha256(raw).hexdigest(), source)

    def file(self, name: str) -> Path:
        """Where a listed file lies."""
        assert name in self.manifest.files
        return self.path / name

    def check(self, name: str) -> None:
        """Raises `ArtifactError` where a listed file is no longer what the manifest says."""
        try:
            _check_file(self.path, name, self.manifest.files[name], verify=True)
        except OSError as error:
            raise ArtifactError(f"{self.path / name} cannot be read: {error}") from error


class Located(NamedTuple):
    """A directory on this machine and where it was fetched from, if it was."""

    path: Path
    source: str | None


def local(path: str | os.PathLike[str]) -> Located:
    """The directory that `path` names, fetched first where it is `hf://owner/name[@revision]`.

    Raises `ArtifactError` where it cannot be fetched.
    """
    if isinstance(path, str) and path.startswith(HUB):
        from koine.hub import fetch  # the hub's client takes a third of a second to import

        return Located(*fetch(path))
    return Located(Path(path), None)


def is_artifact(path: Path) -> bool:
    """Whether a directory holds a Koine manifest, of any version and in any state."""
    try:
        raw = json.loads((path / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(raw, dict) and "format_version" in raw


def _manifest_bytes(root: Path) -> bytes:
    path = root / MANIFEST
    if path.is_symlink():
        raise ArtifactError(f"{path} is a symbolic link; an artifact holds plain files only")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ArtifactError(
            f"{root} holds no {MANIFEST}, so it is no artifact; give the directory that "
            "`export` wrote"
        ) from None
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from error


def _parse(root: Path, raw: bytes) -> Manifest:
    path = root / MANIFEST
    try:
        data: Any = json.loads(raw, object_pairs_hook=_no_repeats)
    except ValueError as error:
        raise ArtifactError(f"{path} is not JSON ({error}); export the run again") from error
    if not isinstance(data, dict) or "format_version" not in data:
        raise ArtifactError(f"{path} has no `format_version`, so it is no artifact's manifest")
    version = cast("dict[str, Any]", data)["format_version"]
    if type(version) is not int or version != FORMAT_VERSION:
        raise ArtifactError(
            f"{path} has format_version {version!r}; this Koine reads {FORMAT_VERSION}. Use the "
            "Koine version that wrote it, or export the run again with this one"
        )
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as error:
        raise ArtifactError(f"{path} is not as expected: {_reasons(error)}") from error


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"repeated key {next(k for k in keys if keys.count(k) > 1)!r}")
    return data


def _reasons(error: ValidationError) -> str:
    reasons: list[str] = []
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            reasons.append(f"unknown key `{place}`; a newer Koine may have written it")
        else:
            reasons.append(f"`{place}`: {fault['msg']}" if place else fault["msg"])
    return "; ".join(reasons)


def _check_listing(root: Path, manifest: Manifest) -> None:
    """Every file is listed, every listed file is there, and nothing is a link."""
    found: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=False):
        for name in (*folders, *files):
            path = Path(folder, name)
            if path.is_symlink():
                raise ArtifactError(
                    f"{path} is a symbolic link; an artifact holds plain files only"
                )
        found.update(Path(folder, name).relative_to(root).as_posix() for name in files)
    missing = sorted(manifest.files.keys() - found)
    if missing:
        raise ArtifactError(f"{root} lacks {', '.join(missing)}; copy the whole artifact again")
    extra = sorted(found - manifest.files.keys() - {MANIFEST})
    if extra:
        raise ArtifactError(
            f"{root} holds files that its manifest does not list: {', '.join(extra)}; remove them"
        )


def _check_file(root: Path, name: str, entry: FileEntry, verify: bool) -> None:
    path = root / name
    size = path.stat().st_size
    if size != entry.bytes:
        raise ArtifactError(
            f"{path} was changed or cut: expected {entry.bytes} bytes, got {size}; copy it again"
        )
    if verify and (got := sha256_file(path)) != entry.sha256:
        raise ArtifactError(
            f"{path} was changed: expected SHA-256 {entry.sha256}, got {got}; copy it again"
        )
