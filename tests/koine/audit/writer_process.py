"""Writes to a log from many threads until killed, and prints receipts: the kill tests' victim.

A line on standard input starts a victim, a fork that costs no imports; it prints its process id
first, and `dead` is printed when it is.
"""

from __future__ import annotations

import os
import sys
import threading
from itertools import count
from pathlib import Path

from koine.audit.config import AuditConfig
from koine.audit.log import AuditLog
from koine.audit.signing import read_signing_key
from koine.audit.sinks import FileSink
from tests.koine.audit.logs import encoded

THREADS = 8


def main(folder: Path) -> None:
    config = AuditConfig(segment_bytes=100_000, checkpoint_events=100)
    key, sink = read_signing_key(folder / "key"), FileSink(folder / "published.jsonl")
    log = AuditLog(folder / "log", "w0", config, signer=key, sinks=[sink])

    def work(number: int) -> None:
        for step in count(number, THREADS):
            receipt = log.record(encoded(step))
            assert receipt is not None
            # one write is one line, whole or not there, also when the process is killed
            os.write(1, f"{receipt.sequence} {receipt.hash}\n".encode())

    for number in range(THREADS):
        threading.Thread(target=work, args=(number,), daemon=True).start()
    threading.Event().wait()


if __name__ == "__main__":
    for _ in sys.stdin:
        victim = os.fork()
        if victim == 0:
            os.write(1, f"{os.getpid()}\n".encode())
            main(Path(sys.argv[1]))
        os.waitpid(victim, 0)
        os.write(1, b"dead\n")
