"""API keys: their secrets, their scopes and the file that lists them; knows no request.

A keys file has one JSON object a line (`Entry`); blank lines and lines from `#` on are skipped. It
holds hashes, never secrets. A secret is 32 random bytes: at 2^256 of them, guessing is hopeless
however fast the hash is, so a plain SHA-256 does what a slow password hash does for passwords,
and costs a request half a microsecond.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from koine.errors import SettingsError
from service.access.redact import redact

Scope = Literal["encode", "read", "label", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""encode: send items. read: look at concepts and models. label: name concepts. admin: `/v1/admin`.
None contains another."""
SECRET = re.compile(r"koine_[A-Za-z0-9_-]{43}")
ID_LENGTH = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """Who is asking; safe to log, since nothing in it opens anything."""

    name: str
    """Whose key it is; several keys share one while they are rotated."""
    id: str
    """The first 8 hex digits of the secret's SHA-256."""
    scopes: frozenset[Scope]
    items_per_minute: int | None = None
    requests_per_minute: int | None = None
    expires: datetime | None = None
    disabled: bool = False

    @property
    def person(self) -> str:
        """Who it is in records that are kept: its id tells it from others of the name."""
        return self.name if self is ANONYMOUS else f"{self.name} ({self.id})"

    @property
    def known_id(self) -> str | None:
        """Its id; None where no keys are configured."""
        return None if self is ANONYMOUS else self.id


ANONYMOUS = Key(name="anonymous", id="-" * ID_LENGTH, scopes=frozenset(SCOPES))
"""Everybody, where no keys are configured."""


class Entry(BaseModel):
    """One line of a keys file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Of the whole secret, with its prefix."""
    scopes: Annotated[list[Scope], Field(min_length=1)]
    expires: AwareDatetime | None = None
    """In ISO 8601 with its offset, such as `2027-01-31T00:00:00Z`."""
    items_per_minute: Annotated[int, Field(ge=1, le=10**9)] | None = None
    requests_per_minute: Annotated[int, Field(ge=1, le=10**9)] | None = None
    disabled: bool = False

    @property
    def key(self) -> Key:
        """What the rest of the service sees of it."""
        return Key(
            name=self.name,
            id=self.sha256[:ID_LENGTH],
            scopes=frozenset(self.scopes),
            items_per_minute=self.items_per_minute,
            requests_per_minute=self.requests_per_minute,
            expires=self.expires,
            disabled=self.disabled,
        )


class Stamp(NamedTuple):
    """What differs between two versions of a file; a replaced link counts too."""

    inode: int
    size: int
    mtime_ns: int
    mode: int


def stamp_of(path: Path) -> Stamp:
    """Raises `SettingsError` where the file cannot be looked at."""
    try:
        found = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    return Stamp(found.st_ino, found.st_size, found.st_mtime_ns, stat.S_IMODE(found.st_mode))


def new_secret() -> str:
    """A secret of 32 random bytes, such as `koine_` and 43 characters of base64."""
    return f"koine_{secrets.token_urlsafe(32)}"


def hash_of(secret: str) -> str:
    """The SHA-256 by which a secret is known, in hex."""
    return hashlib.sha256(secret.encode("ascii")).hexdigest()


def read_keys(path: Path) -> dict[str, Key]:
    """The keys in a file, by the hash of their secret.

    Raises `SettingsError`, which names the line and the reason and holds no secret.
    """
    return {entry.sha256: entry.key for _, entry in read_entries(path)}


def read_entries(path: Path) -> list[tuple[int, Entry]]:
    """The entries of a file with their line numbers, from 1. Raises `SettingsError`."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    entries = [
        (number, _entry(path, number, line))
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    _check_unique(path, entries)
    return entries


def _entry(path: Path, number: int, line: str) -> Entry:
    try:
        return Entry.model_validate_json(line)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        reason = redact(f"`{where}`: {fault['msg']}" if where else str(fault["msg"]))
        raise SettingsError(f"{path} line {number}: {reason}; mend or remove the line") from None


def _check_unique(path: Path, entries: Iterable[tuple[int, Entry]]) -> None:
    first: dict[str, int] = {}
    for number, entry in entries:
        earlier = first.setdefault(entry.key.id, number)
        if earlier != number:
            raise SettingsError(
                f"{path} line {number}: the key {entry.key.id} stands in line {earlier} already; "
                "remove one, or create a new key"
            )


def _unreadable(path: Path, error: Exception) -> SettingsError:
    reason = (error.strerror or "") if isinstance(error, OSError) else "it is no UTF-8 text"
    return SettingsError(
        f"the keys file {path} cannot be read: {reason}; "
        "`python -m service.access create` makes one"
    )
