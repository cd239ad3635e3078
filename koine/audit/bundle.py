"""Evidence for a third party: entries of a time span, with proofs, in a folder of plain files.

`entries/WRITER.jsonl` holds the lines as they stand in the log, `proofs.json` for each writer the
checkpoint over them, the tree's nodes beside them, and earlier checkpoints with proofs that the
log only grew since. `verify.py` checks it all and needs no Koine. Signs nothing.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from koine.audit import check_bundle
from koine.audit.checkpoints import CHECKPOINTS, Checkpoint, read_checkpoints
from koine.audit.entries import read_entry
from koine.audit.merkle import Frontier, Tree
from koine.audit.segments import lines, read_header, segments_of, writers_of
from koine.errors import AuditError, RequestError

SCHEMA = "koine.audit-bundle/1"
_EARLIER = 100
"""Earlier checkpoints of each writer that go with the proof."""
_README = """# Evidence from an audit log of Koine

Entries from {begin} until before {end} (UTC), exported {now}.

    python3 verify.py --key KEY.pub

checks that every entry is as it was when the log's checkpoint was signed, and that none between
the first and the last is missing. It needs Python and the package `cryptography`, nothing else.
Take the public key from where the log's operator publishes it; `key.pub` here is a copy.

- `entries/WRITER.jsonl`: an entry per line, as written (canonical JSON, RFC 8785).
- `proofs.json`: signed checkpoints (C2SP signed notes) and proofs (RFC 6962).
- Compare the checkpoints with those that were published elsewhere at the time: who holds the
  signing key could sign another history later, but cannot take back what was published.
"""


class Exported(NamedTuple):
    """One writer's part of a bundle."""

    writer: str
    first: int
    last: int
    """The first entry that is not in it."""


class _Read(NamedTuple):
    tree: Tree
    first: int
    kept: list[bytes]


def export_bundle(
    root: Path, begin: str, end: str, key: str, out: Path, now: str
) -> list[Exported]:
    """Writes the bundle to a new folder `out`; the log may be written meanwhile.

    `begin`, `end`: times as entries have them, `end` excluded. `key`: the public key's line.
    Raises `AuditError` where entries are under no checkpoint yet, or damaged; `RequestError` if
    `out` exists or no entry is that old.
    """
    if out.exists():
        raise RequestError(f"{out} is there already; give a folder that is not")
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "entries").mkdir(parents=True)
    try:
        proofs = [_writer(folder, begin, end, part) for folder in writers_of(root)]
        found = [proof for proof in proofs if proof is not None]
        if not found:
            raise RequestError(f"no entry of {root} is from {begin} until before {end}")
        text = json.dumps(
            {"schema": SCHEMA, "begin": begin, "end": end, "writers": found}, indent=1
        )
        (part / "proofs.json").write_text(text + "\n", encoding="utf-8")
        (part / "key.pub").write_text(key + "\n", encoding="utf-8")
        (part / "README.md").write_text(_README.format(begin=begin, end=end, now=now), "utf-8")
        shutil.copyfile(Path(check_bundle.__file__), part / "verify.py")
        part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return [Exported(proof["writer"], proof["first"], proof["last"]) for proof in found]


def _writer(folder: Path, begin: str, end: str, part: Path) -> dict[str, Any] | None:
    read = _read(folder, begin, end)
    if not read.kept:
        return None
    first, last = read.first, read.first + len(read.kept)
    checkpoints = _checkpoints(folder, last, read.tree)
    covering = checkpoints[0]
    (part / "entries" / f"{folder.name}.jsonl").write_bytes(
        b"".join(line + b"\n" for line in read.kept)
    )
    return {
        "writer": folder.name,
        "first": first,
        "last": last,
        "entries": f"entries/{folder.name}.jsonl",
        "checkpoint": covering.note,
        "beside": [node.hex() for node in read.tree.span(first, last, covering.size)],
        "earlier": [
            {
                "checkpoint": old.note,
                "consistency": [n.hex() for n in read.tree.consistency(old.size, covering.size)],
            }
            for old in checkpoints[1 : 1 + _EARLIER]
        ],
    }


def _read(folder: Path, begin: str, end: str) -> _Read:
    """The tree over all entries, and the lines of those in the span."""
    base: Frontier | None = None
    hashes: list[bytes] = []
    kept: list[bytes] = []
    first = 0
    for path in segments_of(folder):
        with path.open("rb") as file:
            header = read_header(path, file)
            base = base or header.frontier
            for line in (line for line in lines(file) if line.whole):
                try:
                    entry = read_entry(line.raw)
                except ValueError as error:
                    raise AuditError(
                        f"{path} line {line.number} is no entry: {error}; run `audit verify`"
                    ) from error
                if begin <= entry.time < end:
                    first = first if kept else entry.sequence
                    kept.append(line.raw)
                hashes.append(entry.hash)
    return _Read(Tree(base or Frontier(), hashes), first, kept)


def _checkpoints(folder: Path, last: int, tree: Tree) -> list[Checkpoint]:
    """The newest checkpoint, and those before it, newest first, that the tree can prove."""
    path = folder / CHECKPOINTS
    found = list(read_checkpoints(path)) if path.exists() else []
    known = [c for c in reversed(found) if tree.base <= c.size <= tree.size and c.size > 0]
    if not known or known[0].size < last:
        signed = known[0].size if known else 0
        raise AuditError(
            f"{folder.name} is signed up to entry {signed}, the span ends at {last}: wait for the "
            "next checkpoint, or run `audit checkpoint` while nobody writes"
        )
    if known[0].root != tree.root(known[0].size):
        raise AuditError(f"{folder} is not as its checkpoint was signed; run `audit verify`")
    return known
