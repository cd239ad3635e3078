"""`python -m koine audit <command>`: verify, export and reproduce from the console.

`verify` exits with 0 where nothing is wrong, 1 where faults were found, 2 where it cannot read.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from koine.audit.checkpoints import CHECKPOINTS, NAME, Checkpoint, line_of, read_checkpoints
from koine.audit.faults import Checked
from koine.errors import AuditError, RequestError

KEY = "key.pub"
"""The public key within the log, for convenience; it proves nothing against who wrote the log."""


def add_audit(parser: argparse.ArgumentParser) -> None:
    """Adds the commands of `audit`."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    verifying = _command(commands, "verify", _verify, "check entries, chain, tree and signatures")
    verifying.add_argument("log", type=Path, metavar="DIR", help="directory of the audit log")
    verifying.add_argument(
        "--checkpoints", help="checkpoints kept elsewhere: a file, or redis://HOST:PORT/DATABASE"
    )
    verifying.add_argument("--key", type=Path, help=f"public key; default: DIR/{KEY}")
    signing = _command(
        commands, "checkpoint", _checkpoint, "print the newest checkpoints, or sign new ones"
    )
    signing.add_argument("log", type=Path, metavar="DIR", help="directory of the audit log")
    signing.add_argument("--sign", type=Path, help="private key: sign first what is not signed")
    exporting = _command(commands, "export", _export, "evidence that others verify without Koine")
    exporting.add_argument("log", type=Path, metavar="DIR", help="directory of the audit log")
    exporting.add_argument("--from", dest="begin", required=True, help="ISO 8601, UTC by default")
    exporting.add_argument("--to", dest="end", required=True, help="ISO 8601, itself excluded")
    exporting.add_argument("--out", type=Path, required=True, help="folder to make")
    exporting.add_argument("--key", type=Path, help=f"public key; default: DIR/{KEY}")
    again = _command(commands, "reproduce", _reproduce, "encode an input again and compare")
    again.add_argument(
        "entry", metavar="EVENT", help="DIR/WRITER:SEQUENCE, or a file with its line"
    )
    again.add_argument(
        "--input", type=Path, action="append", required=True, help="what was sent; may be repeated"
    )
    again.add_argument("--artifact", type=Path, required=True, help="the artifact that answered")
    making = _command(commands, "key", _key, "make an Ed25519 key pair")
    making.add_argument(
        "--out", type=Path, required=True, help="private key; `.pub` goes beside it"
    )
    making.add_argument("--name", default=NAME, help=f"name in signatures; default: {NAME}")


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    return parser


def _verify(args: argparse.Namespace) -> int:
    from koine.audit.signing import read_verifying_key
    from koine.audit.verify import verify_log

    published = _published(args.checkpoints)
    path: Path = args.key or args.log / KEY
    key = read_verifying_key(path) if args.key or path.is_file() else None
    checked = verify_log(args.log, key, published)
    for one in checked:
        _print_checked(one)
    if key is None:
        print("signatures were not checked: give the public key with --key")
    elif args.key is None:
        print(f"checked with {path}, which lies in the log itself; give your own with --key")
    if args.checkpoints is None:
        print("not compared with checkpoints kept elsewhere: give them with --checkpoints")
    return 1 if any(one.faults for one in checked) else 0


def _published(place: str | None) -> list[Checkpoint]:
    from koine.audit.sinks import read_redis

    if place is None:
        return []
    try:
        if place.startswith(("redis://", "rediss://", "unix://")):
            return read_redis(place)
        return list(read_checkpoints(Path(place)))
    except (OSError, AuditError) as error:
        raise RequestError(f"the published checkpoints cannot be read: {error}") from error


def _print_checked(one: Checked) -> None:
    for fault in one.faults:
        print(f"FAULT {fault}")
    if one.more:
        print(f"FAULT {one.writer}: {one.more:,} more")
    for note in one.notes:
        print(f"note  {one.writer}: {note}")
    verdict = f"{len(one.faults) + one.more:,} FAULTS" if one.faults else "ok"
    signed = f"signed up to {one.signed - 1:,}" if one.signed else "nothing signed"
    print(
        f"{one.writer}: {verdict}: entries {one.base:,} to {one.size - 1:,}, {signed}, "
        f"{one.checkpoints:,} checkpoints, {one.published:,} published ones"
    )


def _checkpoint(args: argparse.Namespace) -> int:
    from koine.audit.segments import writers_of

    folders = writers_of(args.log)
    if args.sign is not None:
        _sign(args.log, [folder.name for folder in folders], args.sign)
    for folder in folders:
        path = folder / CHECKPOINTS
        newest = list(read_checkpoints(path))[-1:] if path.exists() else []
        if not newest:
            print(f"{folder.name}: nothing is signed yet", file=sys.stderr)
        for checkpoint in newest:
            sys.stdout.write(line_of(checkpoint).decode())
    return 0


def _sign(root: Path, writers: list[str], path: Path) -> None:
    from koine.audit.log import AuditLog
    from koine.audit.signing import read_signing_key

    key = read_signing_key(path)
    for writer in writers:
        AuditLog(root, writer, signer=key).close()


def _export(args: argparse.Namespace) -> int:
    from koine.audit.bundle import export_bundle
    from koine.audit.entries import now
    from koine.audit.signing import read_verifying_key

    path: Path = args.key or args.log / KEY
    if not path.is_file():
        raise RequestError(f"there is no {path}; give the log's public key with --key")
    key = read_verifying_key(path)
    begin, end = _time(args.begin), _time(args.end)
    exported = export_bundle(args.log, begin, end, key.line(), args.out, now())
    for one in exported:
        print(f"{one.writer}: entries {one.first:,} to {one.last - 1:,}")
    print(f"{args.out}: verify with `python3 {args.out / 'verify.py'} --key KEY.pub`")
    return 0


def _time(text: str) -> str:
    """ISO 8601 as entries have it."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise RequestError(f"{text!r} is no time; give one like 2026-11-27T12:00") from None
    time = time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC)
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _reproduce(args: argparse.Namespace) -> int:
    from koine.artifact import Artifact
    from koine.audit.reproduce import find_entry, reproduce

    entry = find_entry(args.entry)
    streams = reproduce(entry, args.input, Artifact.open(args.artifact))
    for one in streams:
        count = len(one.recorded)
        print(f"{one.stream}: {'the same' if one.same else 'NOT THE SAME'}, top {count}")
        for concept, index, value in zip(one.recorded, one.indices, one.values, strict=False):
            print(
                f"  recorded {concept.concept:6} {concept.micros / 1e6:10.6f}   "
                f"now {index:6} {value:10.6f}"
            )
    return 0 if all(one.same for one in streams) else 1


def _key(args: argparse.Namespace) -> int:
    from koine.audit.signing import write_new_key

    key = write_new_key(args.out, args.name)
    print(f"{os.fspath(args.out)}: private key, keep it from the log's readers")
    print(f"{os.fspath(args.out)}.pub: {key.public.line()}")
    return 0
