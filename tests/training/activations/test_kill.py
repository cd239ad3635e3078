"""`kill -9` of a real extract at random points: the resumed store equals an uninterrupted one."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.activations.runs import Runs
from tests.training.sources.made import made, write_captions_folder, write_tars
from training.activations import ActivationStore

ITEMS, SHARD = 180, 12
KILLS = 3
SPOILT = (17, 100)
"""Items whose image is damaged, where images are files."""


def hashes(out: Path) -> dict[str, str]:
    return {
        str(file.relative_to(out)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in out.rglob("*")
        if file.is_file()
    }


def finished(out: Path) -> int:
    return len([folder for folder in out.glob("shards/*") if folder.suffix != ".tmp"])


def kill_after(runs: Runs, pid: int, out: Path, shards: int, delay: float) -> None:
    """Kill a process some time after `shards` shards are finished."""
    deadline = time.monotonic() + 120
    while finished(out) < shards:
        assert time.monotonic() < deadline, runs.log.read_text()
        time.sleep(0.002)
    time.sleep(delay)
    os.kill(pid, signal.SIGKILL)
    assert runs.end().code == -signal.SIGKILL, "it ended before it was killed: add items"


@pytest.mark.parametrize(
    ("source", "write"), [("captions-folder", write_captions_folder), ("webdataset", write_tars)]
)
def test_killed_and_resumed_equals_uninterrupted(
    tmp_path: Path, runs: Runs, source: str, write: Callable[..., None]
) -> None:
    write(tmp_path / "data", made(ITEMS))
    for number in SPOILT:
        image = tmp_path / "data/images" / f"img{number:03d}.jpg"
        if image.is_file():
            image.write_bytes(b"no image")

    def start(out: str) -> int:
        return runs.start(
            "extract", "--recipe", "tiny", "--source", source, "--data", str(tmp_path / "data"),
            "--out", str(tmp_path / out), "--shard-size", str(SHARD), "--batch-size", "3",
            "--threads", "2", "--device", "cpu",
        )  # fmt: skip

    start("whole")
    assert runs.end().code == 0, runs.log.read_text()

    chance, left = random.Random(source), 0
    for _ in range(KILLS):
        pid = start("s")
        kill_after(runs, pid, tmp_path / "s", left + chance.randint(0, 3), chance.random() / 5)
        assert finished(tmp_path / "s") >= left
        left = finished(tmp_path / "s")
    assert not (tmp_path / "s/store.json").exists()
    assert 0 < left < ITEMS / SHARD
    start("s")
    assert runs.end().code == 0, runs.log.read_text()

    assert hashes(tmp_path / "s") == hashes(tmp_path / "whole")
    store = ActivationStore.open(tmp_path / "s")
    lost = SPOILT if source == "captions-folder" else ()
    names = [item.name for number, item in enumerate(made(ITEMS)) if number not in lost]
    assert [Path(store.row(i).id).stem for i in range(len(store))] == names
