"""`kill -9` of a real extract at random points: the resumed store equals an uninterrupted one."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.training.sources.made import made, write_captions_folder, write_tars
from training.activations import ActivationStore
from training.sources import open_source

ROOT = Path(__file__).parents[3]
ITEMS, SHARD = 180, 12
KILLS = 2


def start(data: Path, out: Path, source: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.training.activations.tiny_recipe", "extract",
         "--recipe", "tiny", "--source", source, "--data", str(data), "--out", str(out),
         "--shard-size", str(SHARD), "--batch-size", "3", "--threads", "2", "--device", "cpu"],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def hashes(out: Path) -> dict[str, str]:
    return {
        str(file.relative_to(out)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in out.rglob("*")
        if file.is_file()
    }


def kill_after(process: subprocess.Popen[str], out: Path, shards: int, delay: float) -> int:
    """Kill a process some time after it has finished `shards` shards; the shards it left."""
    deadline = time.monotonic() + 120
    while len(finished(out)) < shards:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it ended before it was killed: add items"
    return len(finished(out))


def finished(out: Path) -> list[Path]:
    return [folder for folder in out.glob("shards/*") if folder.suffix != ".tmp"]


@pytest.mark.parametrize(
    ("source", "write"),
    [
        ("captions-folder", write_captions_folder),
        pytest.param("webdataset", write_tars, marks=pytest.mark.slow),
    ],
)
def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path, source: str, write) -> None:
    write(tmp_path / "data", made(ITEMS))
    spoil(tmp_path / "data")
    whole = start(tmp_path / "data", tmp_path / "whole", source)
    output = whole.communicate()
    assert whole.returncode == 0, output

    chance = random.Random(source)
    left = 0
    for _ in range(KILLS):
        process = start(tmp_path / "data", tmp_path / "s", source)
        now = kill_after(process, tmp_path / "s", left + chance.randint(1, 4), chance.random() / 5)
        assert now >= left
        left = now
    assert not (tmp_path / "s/store.json").exists()
    last = start(tmp_path / "data", tmp_path / "s", source)
    output = last.communicate()
    assert last.returncode == 0, output

    assert hashes(tmp_path / "s") == hashes(tmp_path / "whole")
    store = ActivationStore.open(tmp_path / "s")
    everything = open_source(source, tmp_path / "data").items()
    expected = [item.id for number, item in enumerate(everything) if number not in SPOILT]
    if source == "captions-folder":
        assert [store.row(i).id for i in range(len(store))] == expected


SPOILT = (17, 100)
"""Items whose image is damaged in the folder."""


def spoil(data: Path) -> None:
    for number in SPOILT:
        image = data / "images" / f"img{number:03d}.jpg"
        if image.is_file():
            image.write_bytes(b"no image")
