"""The audit log: events a second with and without group commit, and a million entries verified."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.entry import Entry, entry
from koine.audit.config import AuditConfig
from koine.audit.events import ActiveConcept, EncodeEvent, content_digest
from koine.audit.journal import Journal, event_bytes
from koine.audit.log import AuditLog
from koine.audit.signing import SigningKey, write_new_key
from koine.audit.verify import verify_log

MILLION = 1_000_000
LIMIT_S = 60.0
"""How long the verification of a million entries may take."""
THREADS = 64
PER_THREAD = 40
REPEATS = 3


def entries() -> list[Entry]:
    """Both comparisons, on the disk that holds temporary files."""
    with tempfile.TemporaryDirectory() as folder:
        return [_group_commit(Path(folder)), _verification(Path(folder))]


def event(number: int) -> EncodeEvent:
    """An event as of one image, eight concepts kept."""
    concepts = (
        ActiveConcept(concept=(number * 31 + rank) % 8192, micros=900_000 - rank)
        for rank in range(8)
    )
    return EncodeEvent(
        content={"image": content_digest(str(number).encode())},
        dictionary="d" * 64,
        codes={"clip_image": tuple(concepts)},
        key="key-1",
        latency_us=1000 + number % 997,
        outcome="ok",
        trace=f"{number:032x}",
    )


def _group_commit(folder: Path) -> Entry:
    """Events a second, each on disk before it is acknowledged: many threads beside one."""
    pairs: list[tuple[float, float]] = []
    for repeat in range(REPEATS):
        many = _rate(folder / f"many{repeat}", THREADS)
        pairs.append((many, _rate(folder / f"one{repeat}", 1)))
    ratios = [many / one for many, one in pairs]
    return entry(
        f"audit log: {THREADS} threads recording, an fsync for all that wait / one thread",
        statistics.median(many for many, _ in pairs),
        statistics.median(one for _, one in pairs),
        ratio=statistics.median(ratios),
        target=None,
        unit="events/s",
        spread=statistics.stdev(ratios),
    )


def _rate(root: Path, threads: int) -> float:
    events = [event(number) for number in range(PER_THREAD)]
    with AuditLog(root, "w0") as log, ThreadPoolExecutor(threads) as pool:

        def work(_: int) -> None:
            for one in events:
                log.record(one)

        list(pool.map(work, range(threads)))
        began = time.perf_counter()
        list(pool.map(work, range(threads)))
        return threads * PER_THREAD / (time.perf_counter() - began)


def _verification(folder: Path) -> Entry:
    """Seconds for a million entries, signatures included, by one process."""
    key = write_new_key(folder / "key")
    _write(folder / "million", key)
    began = time.perf_counter()
    (checked,) = verify_log(folder / "million", key.public)
    seconds = time.perf_counter() - began
    if checked.faults or checked.size <= MILLION or checked.signed != checked.size:
        sys.exit(f"the log just written does not verify: {checked}")
    return entry(
        "audit log: a million entries verified / the limit",
        seconds,
        LIMIT_S,
        ratio=LIMIT_S / seconds,
        target=1.0,
        unit="s",
    )


def _write(root: Path, key: SigningKey) -> None:
    events = [event_bytes(event(number)) for number in range(1000)]
    journal = Journal(root, "w0", AuditConfig(), key)
    for _ in range(MILLION // len(events)):
        journal.commit(events)
        journal.checkpoint()
    journal.close()
