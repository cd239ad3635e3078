"""The open log: group commit, policies, recovery, rotation, retention, one writer only."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest

from koine.audit import entries, journal, recovery
from koine.audit.checkpoints import Checkpoint, read_checkpoints
from koine.audit.config import AuditConfig
from koine.audit.events import ConfigEvent, LogEvent
from koine.audit.log import AuditLog
from koine.audit.segments import segments_of
from koine.errors import AuditError
from tests.koine.audit.logs import check, encoded, faults, signing_key, write_log
from tests.service.process import ROOT


def events_of(folder: Path) -> list[dict]:
    return [orjson.loads(line)["event"] for line in all_lines(folder)]


def all_lines(folder: Path) -> list[bytes]:
    paths = segments_of(folder / "log" / "w0")
    return [line for path in paths for line in path.read_bytes().splitlines()[1:]]


def test_many_threads_share_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs: list[int] = []
    real = journal.os.fdatasync
    monkeypatch.setattr(journal.os, "fdatasync", lambda fd: (syncs.append(fd), real(fd)))
    with AuditLog(tmp_path / "log", "w0") as log, ThreadPoolExecutor(32) as pool:
        receipts = list(pool.map(log.record, map(encoded, range(2000))))
    assert sorted(r.sequence for r in receipts if r) == list(range(1, 2001))
    assert len(syncs) < 1500
    signing_key(tmp_path)
    assert faults(tmp_path, compare=False) == []


def test_what_is_on_disk_holds_no_content(tmp_path: Path) -> None:
    write_log(tmp_path)
    (first, second, *_) = events_of(tmp_path)
    assert first == {"kind": "log", "action": "opened", "count": 0}
    assert set(second) == {
        "kind", "content", "dictionary", "mode", "codes", "key", "latency_us", "outcome", "trace",
    }  # fmt: skip


def test_two_writers_never_share_a_log(tmp_path: Path) -> None:
    with AuditLog(tmp_path / "log", "w0"):
        with pytest.raises(AuditError, match="written by another process"):
            AuditLog(tmp_path / "log", "w0")
        AuditLog(tmp_path / "log", "w1").close()
    AuditLog(tmp_path / "log", "w0").close()


@pytest.mark.parametrize("writer", ["", "../w", "a/b", "x" * 65])
def test_a_writer_that_is_no_name_is_refused(tmp_path: Path, writer: str) -> None:
    with pytest.raises(AuditError, match="use letters"):
        AuditLog(tmp_path / "log", writer)


@pytest.mark.parametrize("tail", [b'{"event":{"ki', b"\x00" * 300, b"\n\x00\x00\n", b"garbage\n"])
def test_an_unfinished_tail_is_cut_and_told(tmp_path: Path, tail: bytes) -> None:
    root = write_log(tmp_path)
    with segments_of(root / "w0")[-1].open("ab") as file:
        file.write(tail)
    write_log(tmp_path, 1)
    assert {"kind": "log", "action": "recovered", "count": len(tail)}.items() <= [
        event for event in events_of(tmp_path) if event.get("action") == "recovered"
    ][0].items()
    assert faults(tmp_path) == []


def test_a_damaged_log_is_not_written_on(tmp_path: Path) -> None:
    root = write_log(tmp_path, segment_bytes=10**6)
    path = segments_of(root / "w0")[-1]
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], b"?" + lines[3][1:], *lines[4:]]))
    with pytest.raises(AuditError, match="line 4 is damaged, yet entry 3 follows"):
        AuditLog(root, "w0")
    path.write_bytes(b"".join(lines[:4]))
    with pytest.raises(AuditError, match="ends after 3 entries, but 21 were signed"):
        AuditLog(root, "w0")
    path.unlink()
    with pytest.raises(AuditError, match="holds checkpoints but no segments"):
        AuditLog(root, "w0")
    path.write_bytes(whole)
    AuditLog(root, "w0").close()


def test_an_unfinished_checkpoint_is_cut(tmp_path: Path) -> None:
    root = write_log(tmp_path)
    with (root / "w0" / "checkpoints.jsonl").open("ab") as file:
        file.write(b'"koine-audit/w0\\n3')
    write_log(tmp_path, 3)
    assert faults(tmp_path) == []


def test_retention_removes_signed_segments_and_leaves_a_tombstone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "now", lambda: "2020-01-01T00:00:00.000000Z")
    monkeypatch.setattr(recovery, "now", lambda: "2020-01-01T00:00:00.000000Z")
    write_log(tmp_path, 20)
    (*_, tombstone) = [e for e in events_of(tmp_path) if e.get("action") == "removed"]
    checked = check(tmp_path)
    assert checked.faults == ()
    assert checked.base == tombstone["through"] > 0
    assert "removed after their retention" in checked.notes[0]


def test_unsigned_segments_are_never_removed(tmp_path: Path) -> None:
    config = AuditConfig(segment_bytes=2000, retention_days=1e-9)
    with AuditLog(tmp_path / "log", "w0", config) as log:
        for number in range(20):
            log.record(encoded(number))
    assert int(segments_of(tmp_path / "log" / "w0")[0].stem) == 0


def test_segments_from_before_there_was_a_key_stay_until_they_are_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = AuditConfig(segment_bytes=2000)
    with monkeypatch.context() as earlier:
        for module in (journal, recovery):
            earlier.setattr(module, "now", lambda: "2020-01-01T00:00:00.000000Z")
        with AuditLog(tmp_path / "log", "w0", config) as log:
            for number in range(20):
                log.record(encoded(number))
    with AuditLog(tmp_path / "log", "w0", config, signer=signing_key(tmp_path)) as log:
        for number in range(20):
            log.record(encoded(number))
    # their last entry is old, yet no checkpoint stands where they end: the first signed end is
    # that of a segment with entries of today
    assert int(segments_of(tmp_path / "log" / "w0")[0].stem) == 0
    assert faults(tmp_path, compare=False) == []


def test_segments_rotate_by_age(tmp_path: Path) -> None:
    config = AuditConfig(segment_s=1e-6)
    with AuditLog(tmp_path / "log", "w0", config) as log:
        for number in range(3):
            log.record(encoded(number))
    assert len(segments_of(tmp_path / "log" / "w0")) == 4


def test_time_never_runs_backwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_log(tmp_path, 3)
    monkeypatch.setattr(journal, "now", lambda: "2001-01-01T00:00:00.000000Z")
    with AuditLog(root, "w0", AuditConfig(segment_bytes=10**6)) as log:
        log.record(encoded(1))
    assert faults(tmp_path) == []


class Unwell:
    """A sink that refuses until mended."""

    def __init__(self) -> None:
        self.well, self.got = False, list[Checkpoint]()

    def publish(self, checkpoint: Checkpoint) -> None:
        if not self.well:
            raise ConnectionError("nobody there")
        self.got.append(checkpoint)


def test_a_sink_that_fails_delays_nobody_and_gets_all_later(tmp_path: Path) -> None:
    sink = Unwell()
    config = AuditConfig(checkpoint_events=2)
    with AuditLog(
        tmp_path / "log", "w0", config, signer=signing_key(tmp_path), sinks=[sink]
    ) as log:
        for number in range(10):
            log.record(encoded(number))
        while not log.stats().unpublished:
            time.sleep(0.001)
        sink.well = True
    own = list(read_checkpoints(tmp_path / "log" / "w0" / "checkpoints.jsonl"))
    assert [c.note for c in sink.got] == [c.note for c in own]


def test_a_checkpoint_comes_with_time_alone(tmp_path: Path) -> None:
    config = AuditConfig(checkpoint_s=0.01)
    with AuditLog(tmp_path / "log", "w0", config, signer=signing_key(tmp_path)) as log:
        while log.stats().signed < 1:
            time.sleep(0.001)


def test_what_has_no_one_spelling_is_refused(tmp_path: Path) -> None:
    with AuditLog(tmp_path / "log", "w0") as log:
        with pytest.raises(ValueError, match="should match pattern"):
            ConfigEvent(settings={"é": "x"})
        with pytest.raises(AuditError, match="cannot be written"):
            log.record(LogEvent.model_construct(action="dropped", count=2**60))
        log.record(encoded(1))
    assert len(events_of(tmp_path)) == 2


def lines_of(*numbers: int) -> list[bytes]:
    return [journal.event_bytes(encoded(number)) for number in numbers]


def test_what_is_submitted_together_stands_together(tmp_path: Path) -> None:
    with AuditLog(tmp_path / "log", "w0", signer=signing_key(tmp_path)) as log:
        written = [log.submit(lines_of(*range(n, n + 5))) for n in range(0, 50, 5)]
        receipts = [each.result(10).receipt(n) for each in written for n in range(5)]
    found = [entries.read_entry(line) for line in all_lines(tmp_path)]
    assert [entries.event_of(e) for e in found[1:]] == [encoded(n) for n in range(50)]
    assert [(r.sequence, r.hash) for r in receipts] == [
        (e.sequence, e.hash.hex()) for e in found[1:]
    ]
    assert faults(tmp_path, compare=False) == []


def test_more_than_the_buffer_holds_finds_room_in_an_empty_one(tmp_path: Path) -> None:
    with AuditLog(tmp_path / "log", "w0", AuditConfig(buffer_events=2)) as log:
        assert log.submit(lines_of(*range(9))).result(10).receipt(8).sequence == 9


class Stuck:
    """A disk that answers when it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = threading.Event()
        real = journal.os.fdatasync
        monkeypatch.setattr(journal.os, "fdatasync", lambda fd: (self.go.wait(30), real(fd)))


def test_a_full_buffer_refuses_under_fail_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(tmp_path / "log", "w0", AuditConfig(buffer_events=2, wait_s=0.05))
    disk = Stuck(monkeypatch)
    with pytest.raises(AuditError, match="did not answer within"):
        log.record(encoded(0))
    first = log.submit(lines_of(1))
    with pytest.raises(AuditError, match="has 1 events waiting"):
        log.submit(lines_of(2, 3))
    second = log.submit(lines_of(4))
    with pytest.raises(AuditError, match="has 2 events waiting"):
        log.submit(lines_of(5))
    disk.go.set()
    assert [w.result(10).receipt().sequence for w in (first, second)] == [2, 3]
    log.close()
    with pytest.raises(AuditError, match="is closed"):
        log.record(encoded(4))


def test_a_full_buffer_drops_and_tells_under_fail_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(tmp_path / "log", "w0", AuditConfig(policy="fail_open", buffer_events=2))
    disk = Stuck(monkeypatch)
    log.record(encoded(0))
    while log.stats().buffered:
        time.sleep(0.001)
    for number in range(1, 6):
        assert log.record(encoded(number)) is None
    assert log.stats().dropped == 3
    disk.go.set()
    log.close()
    dropped = [event for event in events_of(tmp_path) if event.get("action") == "dropped"]
    assert [event["count"] for event in dropped] == [3]


def test_a_failed_fsync_is_never_trusted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    with AuditLog(tmp_path / "log", "w0") as log:
        with monkeypatch.context() as broken:
            broken.setattr(journal.os, "fdatasync", fail)
            with pytest.raises(AuditError, match="Input/output error"):
                log.record(encoded(0))
        with pytest.raises(AuditError, match="what it holds is not known"):
            log.record(encoded(1))
    with AuditLog(tmp_path / "log", "w0") as log:
        assert log.record(encoded(2)) is not None


FULL = """
import resource, sys
from pathlib import Path
from koine.audit.config import AuditConfig
from koine.audit.log import AuditLog
from koine.errors import AuditError
from tests.koine.audit.logs import encoded
log = AuditLog(Path(sys.argv[1]), "w0", AuditConfig(policy=sys.argv[2]))
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
refused = 0
for number in range(30):
    try:
        log.record(encoded(number))
    except AuditError as error:
        assert "File too large" in str(error), error
        refused += 1
import time
while log.stats().buffered or (sys.argv[2] == "fail_open" and not log.stats().dropped):
    time.sleep(.01)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
log.record(encoded(30))
log.close()
print(refused, log.stats().dropped)
"""


@pytest.mark.parametrize("policy", ["fail_closed", "fail_open"])
def test_a_full_disk_behaves_by_policy(tmp_path: Path, policy: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "log"), policy],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    refused, dropped = map(int, run.stdout.split())
    told = sum(e["count"] for e in events_of(tmp_path) if e.get("action") == "dropped")
    encodes = sum(event["kind"] == "encode" for event in events_of(tmp_path))
    assert encodes == 31 - refused - dropped
    assert told == dropped
    assert (refused > 0, dropped > 0) == (policy == "fail_closed", policy == "fail_open")
    assert faults_unsigned(tmp_path) == []


def faults_unsigned(folder: Path) -> list:
    from koine.audit.verify import verify_log

    return list(verify_log(folder / "log", None)[0].faults)


def test_writing_without_a_key_loads_no_cryptography() -> None:
    code = (
        "import sys, koine.audit.log, koine.audit.verify; assert 'cryptography' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_entries_are_as_their_reader_expects() -> None:
    event, time = encoded(1), "2026-01-01T00:00:00.000000Z"
    (line,), (digest,) = entries.chained([journal.event_bytes(event)], "w0", 7, time, bytes(32))
    entry = entries.read_entry(line)
    assert entries.event_of(entry) == event
    assert entry.hash == digest
    assert (entry.writer, entry.sequence, entry.time, entry.previous) == ("w0", 7, time, "0" * 64)
