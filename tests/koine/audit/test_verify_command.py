"""`audit verify` as an auditor runs it: every way to change a log exits with 1 and prints where."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from koine.__main__ import main
from koine.audit.checkpoints import CHECKPOINTS, read_checkpoints
from koine.audit.merkle import ZERO
from koine.audit.segments import segments_of
from tests.koine.audit.logs import entry_lines, write_log
from tests.koine.audit.test_tampering import edit, rechain

CHANGED = 7
"""The entry that is meddled with."""


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pristine")
    write_log(folder, 20)
    return folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "copy"))


def flip(folder: Path) -> str:
    path, index = entry_lines(folder / "log")[CHANGED]
    content = bytearray(path.read_bytes())
    at = sum(map(len, content.splitlines(keepends=True)[:index]))
    content[content.index(b'"latency_us":1', at) + len(b'"latency_us":')] ^= 2
    path.write_bytes(bytes(content))
    return rf"line {index + 2} \(entry {CHANGED + 1}, byte \d+\): entry {CHANGED} is not the one"


def delete(folder: Path) -> str:
    path, index = entry_lines(folder / "log")[CHANGED]
    edit(path, lambda lines: lines.pop(index))
    return rf"line {index + 1} \(entry {CHANGED + 1}, byte \d+\): entry {CHANGED} is missing"


def swap(folder: Path) -> str:
    path, index = entry_lines(folder / "log")[CHANGED]
    edit(path, lambda lines: lines.insert(index + 1, lines.pop(index)))
    return rf"line {index + 1} \(entry {CHANGED + 1}, byte \d+\): entry {CHANGED} is missing"


def insert(folder: Path) -> str:
    path, index = entry_lines(folder / "log")[CHANGED]
    edit(path, lambda lines: lines.insert(index + 1, lines[index]))
    return rf"line {index + 2} \(entry {CHANGED}, byte \d+\): entry {CHANGED + 1} should stand"


def truncate(folder: Path) -> str:
    path = segments_of(folder / "log" / "w0")[-1]
    edit(path, lambda lines: lines.__delitem__(slice(2, None)))
    return rf"w0 entry {int(path.stem) + 1}: the log ends here, but .* has 21 entries"


def forge(folder: Path) -> str:
    rechain(folder / "log", CHANGED)
    sizes = [c.size for c in read_checkpoints(folder / "log" / "w0" / CHECKPOINTS)]
    low, high = max(s for s in sizes if s <= CHANGED), min(s for s in sizes if s > CHANGED)
    return rf"w0 entries {low} to {high - 1}: they are not those"


def replace_checkpoint(folder: Path) -> str:
    path = folder / "log" / "w0" / CHECKPOINTS

    def other_head(lines: list[bytes]) -> None:
        note = json.loads(lines[1])
        note = re.sub("head .*", f"head {ZERO.hex()}", note)
        lines[1] = json.dumps(note, ensure_ascii=False).encode() + b"\n"

    edit(path, other_head)
    return rf"{CHECKPOINTS} line 2 \(\d+ entries\): its signature is not that of the key"


@pytest.mark.parametrize(
    "meddle", [flip, delete, swap, insert, truncate, forge, replace_checkpoint]
)
def test_verify_prints_the_place(
    folder: Path, meddle: Callable[[Path], str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["audit", "verify", str(folder / "log"), "--key", str(folder / "key.pub")]
    assert main(arguments) == 0
    capsys.readouterr()
    place = meddle(folder)
    assert main(arguments) == 1
    faults = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAULT ")]
    assert re.search(place, faults[0]), faults
