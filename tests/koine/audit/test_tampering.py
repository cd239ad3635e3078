"""Whatever is done to a log is found, with its place; an untouched log has no fault."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from koine.audit.checkpoints import line_of, make_checkpoint, read_checkpoints
from koine.audit.entries import read_entry
from koine.audit.journal import event_bytes
from koine.audit.merkle import ZERO, Frontier, leaf_hash
from koine.audit.segments import segments_of
from koine.audit.signing import write_new_key
from tests.koine.audit.logs import check, encoded, entry_lines, faults, signing_key, write_log

EVENTS = 20


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pristine")
    write_log(folder, EVENTS)
    return folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "copy"))


def edit(path: Path, change) -> None:
    """Changes a segment's or checkpoint file's lines in place."""
    lines = path.read_bytes().splitlines(keepends=True)
    change(lines)
    path.write_bytes(b"".join(lines))


def rechain(root: Path, number: int) -> None:
    """Changes one entry and rewrites all that follows, headers too: needs no key."""
    frontier, head = Frontier(), ZERO
    for path in segments_of(root / "w0"):
        header, *lines = path.read_bytes().splitlines()
        data = orjson.loads(header)
        data |= {"frontier": [node.hex() for node in frontier.nodes], "head": head.hex()}
        written = [orjson.dumps(data, option=orjson.OPT_SORT_KEYS)]
        for line in lines:
            entry = orjson.loads(line)
            if entry["sequence"] == number:
                entry["event"] = orjson.loads(event_bytes(encoded(999)))
            entry["previous"] = head.hex()
            written.append(orjson.dumps(entry, option=orjson.OPT_SORT_KEYS))
            head = leaf_hash(written[-1])
            frontier.append(head)
        path.write_bytes(b"".join(line + b"\n" for line in written))


def test_an_untouched_log_has_no_fault(folder: Path) -> None:
    checked = check(folder)
    assert checked.faults == ()
    assert checked.notes == ()
    assert checked.size == EVENTS + 1 == checked.signed
    assert checked.checkpoints >= 4
    assert checked.published >= 3
    assert len(segments_of(folder / "log" / "w0")) >= 2


@pytest.mark.parametrize("number", [0, 1, 7, EVENTS])
def test_a_changed_entry_is_found(folder: Path, number: int) -> None:
    path, index = entry_lines(folder / "log")[number]
    edit(
        path,
        lambda lines: lines.__setitem__(index, lines[index].replace(b'"time":"20', b'"time":"19')),
    )
    found = faults(folder)
    assert f"entry {number}" in " ".join(map(str, found)) or "entries" in str(found[-1])
    assert {"root"} <= {fault.kind for fault in found} or "segment" in {f.kind for f in found}


@pytest.mark.parametrize("number", [0, 1, 7, EVENTS - 1])
def test_a_deleted_entry_is_found(folder: Path, number: int) -> None:
    path, index = entry_lines(folder / "log")[number]
    edit(path, lambda lines: lines.pop(index))
    found = faults(folder)
    assert found[0].kind == "gap"
    assert f"{number} " in found[0].what
    assert "line " in found[0].place


def test_swapped_entries_are_found(folder: Path) -> None:
    path, index = entry_lines(folder / "log")[3]

    def swap(lines: list[bytes]) -> None:
        lines[index], lines[index + 1] = lines[index + 1], lines[index]

    edit(path, swap)
    found = faults(folder)
    assert [fault.kind for fault in found[:2]] == ["gap", "order"]
    assert "(entry 4, byte" in found[0].place
    assert "(entry 3, byte" in found[1].place


def test_inserted_entries_are_found(folder: Path) -> None:
    path, index = entry_lines(folder / "log")[3]
    edit(path, lambda lines: lines.insert(index, lines[index]))
    found = faults(folder)
    assert found[0].kind == "order"
    assert f"line {index + 2} (entry 3" in found[0].place


def test_a_forged_entry_in_the_chain_is_found(folder: Path) -> None:
    path, index = entry_lines(folder / "log")[3]

    def forge(lines: list[bytes]) -> None:
        entry = orjson.loads(lines[index])
        entry["event"]["latency_us"] = 1
        lines[index] = orjson.dumps(entry, option=orjson.OPT_SORT_KEYS) + b"\n"

    edit(path, forge)
    found = faults(folder)
    assert found[0].kind == "chain"
    assert found[0].what.startswith("entry 3 is not the one")


def test_a_removed_segment_is_found(folder: Path) -> None:
    path = segments_of(folder / "log" / "w0")[1]
    first = int(path.stem)
    path.unlink()
    found = faults(folder)
    assert found[0].kind in ("gap", "truncation")
    assert str(first) in str(found[0])


def test_removed_first_segments_need_a_tombstone(folder: Path) -> None:
    segments_of(folder / "log" / "w0")[0].unlink()
    (fault,) = faults(folder)
    assert fault.kind == "removal"
    assert "no tombstone" in fault.what


def test_a_removal_where_nothing_was_signed_is_found(folder: Path) -> None:
    segments_of(folder / "log" / "w0")[0].unlink()
    (folder / "log" / "w0" / "checkpoints.jsonl").unlink()
    (folder / "published.jsonl").unlink()
    assert any("no checkpoint was signed there" in fault.what for fault in faults(folder))


@pytest.mark.parametrize("lines_left", [1, 3])
def test_a_truncated_tail_is_found(folder: Path, lines_left: int) -> None:
    path = segments_of(folder / "log" / "w0")[-1]
    edit(path, lambda lines: lines.__delitem__(slice(lines_left, None)))
    (fault,) = [f for f in faults(folder, compare=False) if f.kind == "truncation"]
    assert fault.place == f"w0 entry {int(path.stem) + lines_left - 1}"


def test_a_tail_truncated_with_its_checkpoints_is_found_by_published_ones(folder: Path) -> None:
    writer = folder / "log" / "w0"
    own = list(read_checkpoints(writer / "checkpoints.jsonl"))
    keep = [c for c in own if c.size <= int(segments_of(writer)[-1].stem)]
    (writer / "checkpoints.jsonl").write_bytes(b"".join(map(line_of, keep)))
    segments_of(writer)[-1].unlink()
    assert faults(folder, compare=False) == []
    found = faults(folder)
    assert "truncation" in {fault.kind for fault in found}


def test_a_forged_chain_is_found_between_two_checkpoints(folder: Path) -> None:
    rechain(folder / "log", 7)
    (fault,) = faults(folder, compare=False)
    assert fault.kind == "root"
    sizes = [c.size for c in read_checkpoints(folder / "log" / "w0" / "checkpoints.jsonl")]
    low, high = max(s for s in sizes if s <= 7), min(s for s in sizes if s > 7)
    assert fault.place == f"w0 entries {low} to {high - 1}"


def resign(folder: Path, key) -> None:
    """Signs the whole log anew, as if from the start."""
    path, before, made = folder / "log" / "w0" / "checkpoints.jsonl", ZERO, []
    old = {c.size: c for c in read_checkpoints(path)}
    frontier = Frontier()
    for segment, index in entry_lines(folder / "log"):
        entry = read_entry(segment.read_bytes().splitlines()[index])
        frontier.append(entry.hash)
        if frontier.size in old:
            new = make_checkpoint(
                key, "koine-audit/w0", frontier.size, frontier.root(), entry.hash, before,
                old[frontier.size].time,
            )  # fmt: skip
            before = new.digest
            made.append(line_of(new))
    path.write_bytes(b"".join(made))


def test_a_chain_forged_and_signed_with_another_key_is_found(folder: Path, tmp_path: Path) -> None:
    rechain(folder / "log", 7)
    resign(folder, write_new_key(tmp_path / "other"))
    assert {fault.kind for fault in faults(folder, compare=False)} == {"checkpoint"}


def test_a_chain_forged_with_the_right_key_is_found_by_published_checkpoints(folder: Path) -> None:
    rechain(folder / "log", 7)
    resign(folder, signing_key(folder))
    assert faults(folder, compare=False) == []
    found = faults(folder)
    assert found[0].kind == "root"
    assert "published" in found[0].what


@pytest.mark.parametrize("change", ["root", "drop", "size"])
def test_a_replaced_checkpoint_is_found(folder: Path, change: str) -> None:
    path = folder / "log" / "w0" / "checkpoints.jsonl"

    def replace(lines: list[bytes]) -> None:
        if change == "drop":
            del lines[1]
            return
        rows = json.loads(lines[1]).split("\n")
        rows[1], rows[2] = (
            (rows[1], base64.b64encode(ZERO).decode()) if change == "root" else ("3", rows[2])
        )
        lines[1] = json.dumps("\n".join(rows), ensure_ascii=False).encode() + b"\n"

    edit(path, replace)
    found = faults(folder, compare=False)
    assert found[0].kind == "checkpoint"
    assert "checkpoints.jsonl line 2" in found[0].place


def test_a_writer_that_is_gone_is_found(folder: Path) -> None:
    (folder / "log" / "w0").rename(folder / "log" / "w1")
    found = {str(fault) for fault in faults_of_all(folder)}
    assert any("no log of it is left" in fault for fault in found)
    assert any("it is of writer 'w0'" in fault for fault in found)


def faults_of_all(folder: Path):
    from koine.audit.verify import verify_log
    from tests.koine.audit.logs import published

    checked = verify_log(folder / "log", signing_key(folder).public, published(folder))
    return [fault for one in checked for fault in one.faults]


def test_a_digest_in_capitals_is_found(folder: Path) -> None:
    path = segments_of(folder / "log" / "w0")[1]
    header, rest = path.read_bytes().split(b"\n", 1)
    start = header.index(b'"frontier":["') + len(b'"frontier":["')
    digest = header[start : start + 64]
    assert digest.upper() != digest
    path.write_bytes(header.replace(digest, digest.upper()) + b"\n" + rest)
    assert "is no header of a segment" in str(faults(folder)[0])


@given(st.data())
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_changed_byte_is_found(pristine: Path, tmp_path: Path, data: st.DataObject) -> None:
    folder = tmp_path / "bytes"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(pristine, folder)
    files = [*segments_of(folder / "log" / "w0"), folder / "log" / "w0" / "checkpoints.jsonl"]
    path = data.draw(st.sampled_from(files))
    content = bytearray(path.read_bytes())
    least = len(content.split(b"\n")[0]) if path == files[0] else 0
    # nothing stands ahead of the first header, which says when an empty log was made
    at = data.draw(st.integers(least, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content))
    assert faults(folder) != []
