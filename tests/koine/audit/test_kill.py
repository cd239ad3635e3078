"""`kill -9` at any moment: nothing that was acknowledged is lost, and the log verifies."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from koine.audit.config import AuditConfig
from koine.audit.entries import read_entry
from koine.audit.log import AuditLog
from koine.audit.segments import lines, read_header, segments_of
from tests.koine.audit.logs import check, signing_key
from tests.service.process import ROOT


def write_and_kill(process: subprocess.Popen[bytes], delay_s: float) -> dict[int, str]:
    """Hashes by sequence number that a writer acknowledged before it was killed."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"\n")
    process.stdin.flush()
    victim = int(process.stdout.readline())
    time.sleep(delay_s)
    os.kill(victim, signal.SIGKILL)
    told = list(iter(process.stdout.readline, b"dead\n"))
    words = [line.decode().split() for line in told]
    return {int(sequence): digest for sequence, digest in words}


def kept(folder: Path) -> dict[int, str]:
    """Hashes by sequence number that stand in the log."""
    found: dict[int, str] = {}
    for path in segments_of(folder / "log" / "w0"):
        with path.open("rb") as file:
            read_header(path, file)
            for line in lines(file):
                entry = read_entry(line.raw)
                found[entry.sequence] = entry.hash.hex()
    return found


def survives(folder: Path, kills: int, seed: int) -> None:
    """Kills a writer again and again, each time on the log that the last one left."""
    signing_key(folder)
    acknowledged: dict[int, str] = {}
    rng = random.Random(seed)
    command = [sys.executable, "-m", "tests.koine.audit.writer_process", str(folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe) as process:
        for _ in range(kills):
            acknowledged |= write_and_kill(process, rng.uniform(0, 0.3))
            # a kill may come before there is any log
            if segments_of(folder / "log" / "w0"):
                assert check(folder).faults == ()
    # opening recovers; whatever was cut had not been acknowledged
    AuditLog(folder / "log", "w0", AuditConfig(), signer=signing_key(folder)).close()
    assert check(folder).faults == ()
    found = kept(folder)
    assert len(acknowledged) > kills
    assert {s: found.get(s) for s in acknowledged} == acknowledged


def test_twenty_kills_lose_nothing(tmp_path: Path) -> None:
    survives(tmp_path, 20, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
def test_two_hundred_kills_lose_nothing(tmp_path: Path, seed: int) -> None:
    survives(tmp_path, 20, seed)
