"""Ed25519 keys for checkpoints: made, kept in files, signing and verifying; knows no log.

The only module that imports `cryptography`. A public key is a line as Go's `note` package
writes it, `NAME+HASH+KEY`; a private key is PKCS#8 PEM that only its owner may read.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from koine.audit.checkpoints import NAME
from koine.errors import RequestError

_ED25519 = b"\x01"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """The public half: who has it can check checkpoints, not make them."""

    name: str
    key: Ed25519PublicKey

    @property
    def raw(self) -> bytes:
        """The key's 32 bytes."""
        return self.key.public_bytes_raw()

    @property
    def id(self) -> bytes:
        """The four bytes that name the key in signatures."""
        digest = hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.raw)
        return digest.digest()[:4]

    def line(self) -> str:
        """The key as text."""
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(_ED25519 + self.raw).decode()}"

    def verifies(self, name: str, signature: bytes, text: bytes) -> bool:
        """Whether this key signed the text under this name."""
        if name != self.name or signature[:4] != self.id:
            return False
        try:
            self.key.verify(signature[4:], text)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The private half: who has it can make checkpoints."""

    name: str
    key: Ed25519PrivateKey

    @property
    def public(self) -> VerifyingKey:
        """What verifies its signatures."""
        return VerifyingKey(self.name, self.key.public_key())

    def sign(self, text: bytes) -> bytes:
        """Four bytes that name the key, then the signature."""
        return self.public.id + self.key.sign(text)


def write_new_key(path: Path, name: str = NAME) -> SigningKey:
    """Makes a key: private at `path`, public beside it as `.pub`.

    Raises `RequestError` where a file is in the way: a key that signed is not replaced.
    """
    if not _NAME.fullmatch(name):
        raise RequestError(f"key name {name!r}: use letters, digits, `.`, `_` and `-`")
    made = SigningKey(name, Ed25519PrivateKey.generate())
    pem = made.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = path.with_name(path.name + ".pub")
    for file, mode, content in ((path, 0o600, pem), (public, 0o644, made.public.line().encode())):
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            raise RequestError(f"{file} is there already; give a path that is free") from None
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content.rstrip() + b"\n")
    return made


def read_signing_key(path: Path, name: str = NAME) -> SigningKey:
    """A private key from PEM, under the name of the `.pub` beside it where there is one."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise RequestError(f"{path} is no private key that can be read: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise RequestError(f"{path} holds a key of another kind; `audit key` makes Ed25519 keys")
    public = path.with_name(path.name + ".pub")
    if public.is_file():
        name = read_verifying_key(public).name
    return SigningKey(name, key)


def read_verifying_key(path: Path) -> VerifyingKey:
    """A public key from its line. Raises `RequestError` for anything else."""
    try:
        return parse_verifying_key(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError(f"{path} is no public key of an audit log: {error}") from error


def parse_verifying_key(line: str) -> VerifyingKey:
    """A public key from `NAME+HASH+KEY`. Raises `ValueError`, also where the hash is another's."""
    name, number, encoded = line.strip().split("+", 2)
    raw = base64.b64decode(encoded, validate=True)
    if raw[:1] != _ED25519 or len(raw) != 33:
        raise ValueError("it holds no Ed25519 key")
    key = VerifyingKey(name, Ed25519PublicKey.from_public_bytes(raw[1:]))
    if number != key.id.hex():
        raise ValueError(f"its hash is {number}, that of its key {key.id.hex()}")
    return key
