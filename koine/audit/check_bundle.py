"""Verifies a bundle of an audit log without Koine: python3 verify.py [FOLDER] [--key FILE].

Needs Python 3.9 and the package `cryptography`. Give the log's public key with --key as you got it
from a source that you trust: the key in the bundle says only what the bundle claims.
Exit 0: every entry is as it was signed; 1: something is not; 2: it cannot be read.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def leaf(line: bytes) -> bytes:
    """RFC 6962's hash of an entry."""
    return hashlib.sha256(b"\x00" + line).digest()


def node(left: bytes, right: bytes) -> bytes:
    """RFC 6962's hash of two subtrees."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def split(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << ((count - 1).bit_length() - 1)


def span_root(leaves: list[bytes], first: int, size: int, beside: list[bytes]) -> bytes:
    """Root of the tree of `size` whose leaves from `first` are these, others as `beside` says."""
    nodes, last = iter(beside), first + len(leaves)

    def root(start: int, end: int) -> bytes:
        if end <= first or start >= last:
            return next(nodes)
        if end - start == 1:
            return leaves[start - first]
        middle = start + split(end - start)
        return node(root(start, middle), root(middle, end))

    found = root(0, size)
    if next(nodes, None) is not None:
        raise ValueError("the proof is longer than it should be")
    return found


def consistent(first: int, old: bytes, size: int, new: bytes, proof: list[bytes]) -> bool:
    """RFC 9162, 2.1.4.2: whether the tree of `size` begins with that of `first`."""
    if not 0 < first <= size:
        return False
    if first == size:
        return not proof and old == new
    path = [old, *proof] if first & (first - 1) == 0 else list(proof)
    if not path:
        return False
    at, last = first - 1, size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    a = b = path[0]
    for other in path[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            a, b = node(other, a), node(other, b)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            b = node(b, other)
        at, last = at >> 1, last >> 1
    return last == 0 and a == old and b == new


def read_key(path: Path) -> tuple[str, bytes, Ed25519PublicKey]:
    """A key's name, the four bytes that name it in signatures, and the key."""
    name, _, encoded = path.read_text().strip().split("+", 2)
    raw = base64.b64decode(encoded)
    number = hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4]
    return name, number, Ed25519PublicKey.from_public_bytes(raw[1:])


def read_note(note: str, key: tuple[str, bytes, Ed25519PublicKey]) -> tuple[str, int, bytes, bytes]:
    """Origin, size, root and head of a checkpoint that the key signed."""
    text, _, signatures = note.partition("\n\n")
    name, number, public = key
    given, encoded = signatures.removeprefix("— ").rstrip("\n").split(" ")
    signature = base64.b64decode(encoded)
    if given != name or signature[:4] != number:
        raise ValueError(f"a checkpoint is signed by {given!r}, not by this key")
    try:
        public.verify(signature[4:], (text + "\n").encode())
    except InvalidSignature:
        raise ValueError("a checkpoint's signature is not that of the key") from None
    origin, size, root, head, *_ = text.split("\n")
    return origin, int(size), base64.b64decode(root), bytes.fromhex(head.removeprefix("head "))


def check(folder: Path, proof: dict[str, Any], key: tuple[str, bytes, Ed25519PublicKey]) -> str:
    """Checks one writer's entries; raises `ValueError` with what does not hold."""
    writer, first, last = proof["writer"], proof["first"], proof["last"]
    lines = (folder / proof["entries"]).read_bytes().splitlines()
    if len(lines) != last - first:
        raise ValueError(f"{len(lines)} entries, {last - first} were exported")
    previous = None
    for sequence, line in enumerate(lines, start=first):
        entry = json.loads(line)
        if (entry["writer"], entry["sequence"]) != (writer, sequence):
            raise ValueError(f"entry {sequence} is missing or out of its order")
        if previous is not None and entry["previous"] != previous:
            raise ValueError(f"entry {sequence - 1} was changed after it was written")
        previous = leaf(line).hex()
    origin, size, root, _ = read_note(proof["checkpoint"], key)
    if origin.partition("/")[2] != writer:
        raise ValueError(f"its checkpoint is of {origin}")
    beside = [bytes.fromhex(text) for text in proof["beside"]]
    if lines and span_root([leaf(line) for line in lines], first, size, beside) != root:
        raise ValueError("the entries are not those that the checkpoint was signed over")
    for earlier in proof["earlier"]:
        _, old_size, old_root, _ = read_note(earlier["checkpoint"], key)
        path = [bytes.fromhex(text) for text in earlier["consistency"]]
        if not consistent(old_size, old_root, size, root, path):
            raise ValueError(f"the checkpoint at {old_size} entries is of another log")
    return f"{len(lines)} entries ({first} to {last - 1}) are under the checkpoint at {size}"


def main(arguments: list[str] | None = None) -> int:
    """Checks every writer of the bundle; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent)
    parser.add_argument("--key", type=Path, help="public key from a source that you trust")
    args = parser.parse_args(arguments)
    failed = 0
    try:
        key = read_key(args.key or args.folder / "key.pub")
        proofs = json.loads((args.folder / "proofs.json").read_bytes())
    except (OSError, ValueError) as error:
        sys.stderr.write(f"the bundle cannot be read: {error}\n")
        return 2
    for proof in proofs["writers"]:
        try:
            sys.stdout.write(f"{proof['writer']}: {check(args.folder, proof, key)}\n")
        except (OSError, ValueError, KeyError, StopIteration) as error:
            failed = 1
            sys.stdout.write(f"{proof['writer']}: FAULT: {error or type(error).__name__}\n")
    if args.key is None:
        sys.stdout.write("checked with the bundle's own key; compare it with the log's: --key\n")
    return failed


if __name__ == "__main__":
    sys.exit(main())
