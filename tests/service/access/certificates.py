"""An authority of its own for each test run, by OpenSSL: certificates for loopback and clients."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest


class Authority:
    """Signs certificates into a folder: `ca.pem`, `NAME.pem`, `NAME.key`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = folder / "ca.pem"
        self._run(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test authority",
            "-addext", "keyUsage=critical,keyCertSign",
        )  # fmt: skip

    def sign(self, name: str) -> tuple[Path, Path]:
        """A certificate for 127.0.0.1, and its key."""
        self._run(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2", "-subj", f"/CN={name}",
            "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
            "-addext", "basicConstraints=critical,CA:FALSE", "-CA", "ca.pem", "-CAkey", "ca.key",
        )  # fmt: skip
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def encrypt(self, key: Path) -> Path:
        """The key under a password."""
        out = key.with_suffix(".encrypted")
        self._run("pkey", "-in", str(key), "-aes256", "-passout", "pass:word", "-out", str(out))
        return out

    def trust(self, cert: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
        """How a client trusts the authority, with a certificate of its own where one is given."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if cert is not None:
            context.load_cert_chain(cert, key)
        return context

    def _run(self, *words: str) -> None:
        run = subprocess.run(
            ["openssl", *words], cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr


def authority(folder: Path) -> Authority:
    """Skips where OpenSSL is missing."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl: install the system package `openssl` to run this test")
    return Authority(folder)
