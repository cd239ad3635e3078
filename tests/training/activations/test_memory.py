"""Extracting many images takes no more memory than extracting few."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.training.activations.runs import Runs
from tests.training.sources.made import add_member

FEW, MANY = 40, 400
SIDE = 512


def noise() -> bytes:
    """A JPEG of about 270 KB, 786 KB when decoded."""
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def test_memory_is_bounded(tmp_path: Path, runs: Runs) -> None:
    """360 images more are 97 MB of files and 283 MB of pixels: 40 MB more are allowed."""
    image, memory = noise(), []
    for count in (FEW, MANY):
        (tmp_path / str(count)).mkdir()
        with tarfile.open(tmp_path / str(count) / "all.tar", "w") as tar:
            for number in range(count):
                add_member(tar, f"{number}.jpg", image)
                add_member(tar, f"{number}.txt", b"noise")
        runs.start(
            "extract", "--recipe", "tiny", "--source", "webdataset",
            "--data", str(tmp_path / str(count)), "--out", str(tmp_path / f"store-{count}"),
            "--threads", "2", "--device", "cpu",
        )  # fmt: skip
        ended = runs.end()
        assert ended.code == 0, runs.log.read_text()
        memory.append(ended.memory_kib)
    few, many = memory
    assert many < few + 40 * 1024, (few, many)
