"""Which address this process listens on; asks the socket that BentoML gives a worker."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from collections.abc import Sequence


def listening_host(argv: Sequence[str] = sys.argv) -> str | None:
    """The address that a BentoML worker listens on; None outside of one.

    BentoML tells a worker neither `--host` nor a setting of it, but the listening socket itself
    (`--fd`). Of several workers only the first is told, so that what depends on it happens once.
    """
    told = dict(zip(argv, argv[1:], strict=False))
    if not told.get("--fd", "").isdigit() or told.get("--worker-id", "1") != "1":
        return None
    try:
        # a copy, since closing the socket object closes its descriptor
        with socket.socket(fileno=os.dup(int(told["--fd"]))) as listening:
            inet = listening.family in (socket.AF_INET, socket.AF_INET6)
            return str(listening.getsockname()[0]) if inet else None
    except OSError:
        return None


def is_loopback(host: str | None) -> bool:
    """Whether only this machine can reach it; what is not known is taken to be so."""
    return host is None or ipaddress.ip_address(host.partition("%")[0]).is_loopback
