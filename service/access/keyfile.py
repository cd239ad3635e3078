"""Writes a keys file: adds a key, revokes one; every change is one rename or none."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from koine.errors import RequestError, SettingsError
from service.access.keys import Entry, Key, hash_of, new_secret, read_entries


def add_key(path: Path, entry: Entry) -> Key:
    """Appends an entry to the file, which is made with mode 0600 where there is none.

    Raises `SettingsError` where the file is there and cannot be used, `RequestError` where it has
    a key with this id.
    """
    with _locked(path):
        lines = _lines(path)
        if lines and any(present.key.id == entry.key.id for _, present in read_entries(path)):
            raise RequestError(f"{path} has a key {entry.key.id}; create another one")
        _replace(path, [*lines, _line(entry)])
    return entry.key


def new_entry(name: str, scopes: list[str], **limits: object) -> tuple[str, Entry]:
    """A new secret and the entry that knows it. Raises `pydantic.ValidationError`."""
    secret = new_secret()
    fields = {"name": name, "sha256": hash_of(secret), "scopes": scopes, **limits}
    return secret, Entry.model_validate_json(json.dumps(fields))


def revoke(path: Path, which: str) -> list[Key]:
    """Disables the keys of this name, or the one with this id.

    Raises `RequestError` where no key that is in use fits, `SettingsError` as `add_key` does.
    """
    with _locked(path):
        lines = _lines(path)
        found = [
            (number, entry)
            for number, entry in read_entries(path)
            if which in (entry.name, entry.key.id) and not entry.disabled
        ]
        if not found:
            raise RequestError(
                f"no key in {path} that is in use has the name or id {which!r}; "
                "`python -m service.access list` shows them"
            )
        for number, entry in found:
            lines[number - 1] = _line(entry.model_copy(update={"disabled": True}))
        _replace(path, lines)
    return [entry.key for _, entry in found]


def _lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    read_entries(path)  # a file with a fault is for a person to mend, not to be written over
    return path.read_text(encoding="utf-8").splitlines()


def _line(entry: Entry) -> str:
    return json.dumps(entry.model_dump(mode="json", exclude_defaults=True))


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """Keeps a second command from writing over what this one is about to write."""
    try:
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _replace(path: Path, lines: list[str]) -> None:
    # what a link leads to is replaced, not the link
    real = path.resolve()
    try:
        mode = real.stat().st_mode & 0o777 if real.exists() else 0o600
        # mkstemp makes it 0600 from the first moment on
        descriptor, temporary = tempfile.mkstemp(dir=real.parent, prefix=f".{real.name}.")
        try:
            with open(descriptor, "w", encoding="utf-8") as out:
                out.write("".join(f"{line}\n" for line in lines))
                out.flush()
                os.fsync(out.fileno())
            os.chmod(temporary, mode)
            os.replace(temporary, real)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> SettingsError:
    return SettingsError(
        f"the keys file {path} cannot be written: {error.strerror}; "
        "choose a folder that exists and that you may write to"
    )
