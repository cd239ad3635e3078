"""Artifacts on the Hugging Face hub: `hf://owner/name[@revision]` to a folder, and a folder there.

Moves bytes and checks that they are those of the manifest; what they mean, `Artifact.open` says.
A token is read from `HF_TOKEN` alone, at each call, and stands in no message.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import textwrap
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import huggingface_hub
from huggingface_hub import constants, errors
from huggingface_hub.utils import WeakFileLock

from koine.errors import ArtifactError
from koine.files import sha256_file
from koine.manifest import MANIFEST, is_file_name

SECONDS = 5.0
"""Until the hub counts as out of reach; its own client would retry for minutes."""
_PLACE = re.compile(r"hf://([\w-][\w.-]*/[\w-][\w.-]*)(?:@(\w[\w./-]*))?")
HTTPError = errors.HTTPError  # pyright: ignore[reportPrivateImportUsage] # its client's own
_client: Any = huggingface_hub  # partly typed
_COMMIT = re.compile(r"[0-9a-f]{40}")

log = logging.getLogger(__name__)


class Place(NamedTuple):
    """Where an artifact lies on the hub."""

    repository: str
    revision: str | None
    """A branch, tag or commit; None: the repository's main branch."""

    def __str__(self) -> str:
        return f"hf://{self.repository}" + (f"@{self.revision}" if self.revision else "")


class Fetched(NamedTuple):
    """An artifact that lies here now."""

    path: Path
    source: str
    """`hf://owner/name@commit`, or the local folder that stood in for it."""


def parse_place(text: str) -> Place:
    """The parts of `hf://owner/name[@revision]`. Raises `ArtifactError` for anything else."""
    found = _PLACE.fullmatch(text)
    if found is None or ".." in text:
        raise ArtifactError(f"{text!r} is no place on the hub; write hf://owner/name[@revision]")
    return Place(found[1], found[2])


def fetch(text: str) -> Fetched:
    """Brings the artifact at `hf://owner/name[@revision]` here, unless it is here already.

    A folder `owner/name` (or `owner/name@revision`) below the working directory goes first.
    Files come into `$HF_HOME/koine/owner--name/<commit>`, whole or not at all; a download that was
    cut goes on. Where the hub is out of reach, the commit that was last fetched for the revision
    is used, with a warning. Raises `ArtifactError` where there is none, and for files that are not
    as the manifest says.
    """
    place = parse_place(text)
    beside = Path(str(place).removeprefix("hf://")).absolute()
    if (beside / MANIFEST).is_file():
        log.info("%s: the folder %s is used", place, beside)
        return Fetched(beside, str(beside))
    home = Path(constants.HF_HOME) / "koine" / place.repository.replace("/", "--")
    commit = _commit(place, home)
    folder = home / commit
    if not folder.is_dir():
        with WeakFileLock(home / f".{commit}.lock"):
            if not folder.is_dir():  # another process may have brought it meanwhile
                _download(place, commit, folder)
    pinned = str(Place(place.repository, commit))
    log.info("%s lies in %s", pinned, folder)
    return Fetched(folder, pinned)


def push(folder: Path, names: Mapping[str, Any], text: str, *, public: bool = False) -> str:
    """Uploads the files `names` of an artifact's folder and its manifest as one commit.

    Makes the repository where there is none, private unless `public`. Returns
    `hf://owner/name@commit`. Raises `ArtifactError` where the hub does not take it.
    """
    place = parse_place(text)
    if place.revision and _COMMIT.fullmatch(place.revision):
        raise ArtifactError(f"{text}: a commit cannot be written to; give a branch, or none")
    if reason := out_of_reach():
        raise ArtifactError(f"{place} cannot be written to: {reason}; go online")
    api = huggingface_hub.HfApi(token=_token(), library_name="koine")
    try:
        api.create_repo(place.repository, private=not public, exist_ok=True)
        if place.revision:
            api.create_branch(place.repository, branch=place.revision, exist_ok=True)
        done = api.upload_folder(
            repo_id=place.repository,
            folder_path=folder,
            revision=place.revision,
            allow_patterns=[MANIFEST, *names],
            commit_message="Upload the artifact",
        )
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        raise ArtifactError(
            f"{place} was not written: {_one_line(error)}; {_TOKEN_HELP}"
        ) from error
    return str(Place(place.repository, done.oid))


def out_of_reach() -> str | None:
    """Why the hub cannot be asked, within `SECONDS`; None where it answers."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=SECONDS).close()
    except urllib.error.HTTPError:
        return None  # it answers: what it has is asked for next
    except OSError as error:
        return f"{constants.ENDPOINT} cannot be reached: {_one_line(error)}"
    return None


_TOKEN_HELP = "set HF_TOKEN to a token that may do this"


def _token() -> str | bool:
    """False keeps the client from a token that some login left on this machine."""
    return os.environ.get("HF_TOKEN") or False


def _commit(place: Place, home: Path) -> str:
    """The commit that the place stands for now, or stood for when the hub last answered."""
    revision = place.revision or "main"
    if _COMMIT.fullmatch(revision) and (home / revision).is_dir():
        return revision
    known = home / "refs" / revision.replace("/", "--")
    if reason := out_of_reach():
        if not known.is_file():
            raise ArtifactError(
                f"{place} is not on this machine and cannot be fetched: {reason}; go online, or "
                f"put the artifact's folder at {str(place).removeprefix('hf://')}"
            )
        commit = known.read_text().strip()
        log.warning("%s: %s; the commit that was last fetched is used, %s", place, reason, commit)
        return commit
    url = huggingface_hub.hf_hub_url(place.repository, MANIFEST, revision=revision)
    try:
        commit: str | None = _client.get_hf_file_metadata(url, token=_token()).commit_hash
    except (HTTPError, errors.EntryNotFoundError, OSError, ValueError) as error:
        raise _refused(place, error) from error
    if commit is None or not _COMMIT.fullmatch(commit):
        raise ArtifactError(f"{constants.ENDPOINT} names no commit of {place}: it is no hub")
    known.parent.mkdir(parents=True, exist_ok=True)
    known.write_text(commit + "\n")
    return commit


def _download(place: Place, commit: str, folder: Path) -> None:
    part = folder.with_name(f"{commit}.part")
    files = _listed(_file(place, commit, MANIFEST, part))
    for name, sha256 in files.items():
        path = _file(place, commit, name, part)
        if sha256_file(path) != sha256:
            shutil.rmtree(part)
            raise ArtifactError(
                f"{place} holds a {name} that is not its manifest's (SHA-256 {sha256} expected): "
                "it was changed after the export; push the artifact again, or pin a commit"
            )
    shutil.rmtree(part / ".cache", ignore_errors=True)  # the client's notes on what it resumes
    part.rename(folder)


def _file(place: Place, commit: str, name: str, folder: Path) -> Path:
    try:
        return Path(
            _client.hf_hub_download(
                place.repository, name, revision=commit, local_dir=folder, token=_token()
            )
        )
    except (HTTPError, errors.EntryNotFoundError, OSError, ValueError) as error:
        raise _refused(place, error) from error


def _listed(manifest: Path) -> dict[str, str]:
    """Files by SHA-256; of a manifest that is none, nothing: opening it says what is wrong."""
    try:
        files = cast("dict[str, Any]", json.loads(manifest.read_bytes())["files"])
        return {name: str(e["sha256"]) for name, e in files.items() if is_file_name(name)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _refused(place: Place, error: Exception) -> ArtifactError:
    if isinstance(error, errors.RevisionNotFoundError):
        return ArtifactError(f"{place.repository} has no revision {place.revision!r} on the hub")
    denied = isinstance(error, errors.HfHubHTTPError) and error.response.status_code in (401, 403)
    if denied or isinstance(error, errors.RepositoryNotFoundError):
        return ArtifactError(
            f"there is no {place.repository} on the hub, or it is private; {_TOKEN_HELP}"
        )
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return ArtifactError(
            f"{place} lacks a file that an artifact has: {_one_line(error)}; push it again"
        )
    return ArtifactError(f"{place} was not fetched: {_one_line(error)}; try again, it goes on")


def _one_line(error: Exception) -> str:
    """A library's message, short enough for a sentence and without the token."""
    text = textwrap.shorten(str(error), 300, placeholder=" …") or type(error).__name__
    token = os.environ.get("HF_TOKEN")
    return text.replace(token, "***") if token else text
