"""A listing of any length is read in the same memory, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

from tests.training.sources.made import WRITERS, Made, write_tars
from training.sources import open_source

ROOT = Path(__file__).parents[3]
SIZES = (20, 1500, 4500)
"""The first one only warms up."""

CAPTION = "a long caption of a picture " * 10


def write(kind: str, folder: Path, count: int) -> None:
    items = [Made(f"img{i:05d}", (CAPTION,), ("dog",), None) for i in range(count)]
    if kind == "webdataset":
        write_tars(folder, items, per_tar=count)
    else:
        WRITERS[kind](folder, items)


def peak_bytes(kind: str, folder: Path) -> int:
    """Most memory that reading a listing takes at once."""
    tracemalloc.start()
    source = open_source(kind, folder)
    source.scan()
    for _ in source.items():
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_listings_are_streamed(tmp_path: Path) -> None:
    """3,000 items more take less than 200 KB more: their captions alone would take 840 KB."""
    for kind in WRITERS:
        for count in SIZES:
            write(kind, tmp_path / kind / str(count), count)
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.sources.test_memory", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    peaks = json.loads(done.stdout)
    assert set(peaks) == set(WRITERS)
    for kind, (_, small, large) in peaks.items():
        # 8 bytes an item (and its sorted copies) tell ids apart
        assert large - small < 200_000, (kind, small, large)


if __name__ == "__main__":
    data = Path(sys.argv[1])
    found = {kind: [peak_bytes(kind, data / kind / str(n)) for n in SIZES] for kind in WRITERS}
    sys.stdout.write(json.dumps(found))
