"""Makes, lists and revokes API keys: `python -m service.access`; starts no service."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from koine.errors import KoineError, RequestError
from service.access.keyfile import add_key, new_entry, revoke
from service.access.keys import SCOPES, Key, read_keys


def main(arguments: list[str] | None = None) -> None:
    """Runs one command; exits with one sentence where it cannot."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    try:
        {"create": _create, "list": _list, "revoke": _revoke}[asked.command](asked)
    except KoineError as error:
        sys.exit(f"{error.title}: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service.access", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="prints a new secret, once, and adds its hash")
    create.add_argument("name", help="whose key it is; several share a name while they are rotated")
    create.add_argument("--scopes", required=True, help=f"any of {','.join(SCOPES)}")
    create.add_argument("--items-per-minute", type=int)
    create.add_argument("--requests-per-minute", type=int)
    create.add_argument("--expires", help="such as 2027-01-31 or 2027-01-31T12:00:00Z, in UTC")
    listing = commands.add_parser("list", help="shows names, ids, scopes and limits")
    ending = commands.add_parser("revoke", help="disables the keys of a name, or one by its id")
    ending.add_argument("which", metavar="NAME|ID")
    for command in (create, listing, ending):
        command.add_argument("--file", type=Path, required=True, help="what KOINE_KEYS_FILE names")
    return parser


def _create(asked: argparse.Namespace) -> None:
    limits = {
        "items_per_minute": asked.items_per_minute,
        "requests_per_minute": asked.requests_per_minute,
        "expires": _utc(asked.expires).isoformat() if asked.expires else None,
    }
    scopes = [scope.strip() for scope in asked.scopes.split(",") if scope.strip()]
    try:
        secret, entry = new_entry(asked.name, scopes, **limits)
    except ValidationError as error:
        fault = error.errors()[0]
        raise RequestError(f"`{fault['loc'][0]}`: {fault['msg']}, got {fault['input']!r}") from None
    key = add_key(asked.file, entry)
    print(secret)
    print(f"key {key.name} ({key.id}) added; the secret is shown this once", file=sys.stderr)


def _list(asked: argparse.Namespace) -> None:
    for key in read_keys(asked.file).values():
        print(f"{key.id}  {key.name:20}  {','.join(sorted(key.scopes)):26}  {_state(key)}")


def _revoke(asked: argparse.Namespace) -> None:
    for key in revoke(asked.file, asked.which):
        print(f"key {key.name} ({key.id}) revoked; running services follow within seconds")


def _state(key: Key) -> str:
    limits = [
        f"{limit} {what}/min"
        for limit, what in ((key.items_per_minute, "items"), (key.requests_per_minute, "requests"))
        if limit is not None
    ]
    if key.disabled:
        return ", ".join(["revoked", *limits])
    if key.expires is None:
        return ", ".join(["valid", *limits])
    ended = key.expires <= datetime.now(UTC)
    until = f"{key.expires.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return ", ".join([f"{'ended' if ended else 'valid until'} {until}", *limits])


def _utc(text: str) -> datetime:
    """Raises `RequestError`. What has no offset is UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise RequestError(
            f"`--expires` must be a date or a time in ISO 8601, got {text!r}; "
            "give it as 2027-01-31T12:00:00Z"
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


if __name__ == "__main__":
    main()
