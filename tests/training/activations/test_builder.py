"""Growing a store: it goes on after a stop but not with another plan; a full disk loses nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from koine.errors import StoreError
from tests.training.activations.naive import plan_of, store_of, truth, write_truth
from training.activations.builder import open_builder
from training.activations.manifest import Skipped
from training.activations.shards import Vectors

KNOWN = truth(23, [(1, 1), (0, 3)])
ROOT = Path(__file__).parents[3]


def contents(path: Path) -> dict[str, bytes]:
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file()}


@pytest.mark.parametrize("shards", [0, 1, 2, 3])
def test_a_stopped_run_goes_on_to_the_same_bytes(tmp_path: Path, shards: int) -> None:
    write_truth(tmp_path / "whole", KNOWN, 10)
    write_truth(tmp_path / "s", KNOWN, 10)
    (tmp_path / "s/store.json").unlink()
    for shard in ("00000", "00001", "00002")[shards:]:
        # what a kill leaves: a shard half written under its temporary name
        (tmp_path / "s/shards" / shard).rename(tmp_path / "s/shards" / f"{shard}.tmp")
        (tmp_path / "s/shards" / f"{shard}.tmp/rows.parquet").write_bytes(b"torn")
    write_truth(tmp_path / "s", KNOWN, 10)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def test_another_plan_is_refused_and_named(tmp_path: Path) -> None:
    write_truth(tmp_path / "s", KNOWN, 10)
    before = contents(tmp_path / "s")
    other = plan_of(KNOWN, 11, "float16").model_copy(update={"recipe": "photos"})
    with pytest.raises(StoreError) as caught, open_builder(tmp_path / "s", other):
        pass
    lines = str(caught.value).splitlines()
    assert "begun with another plan" in lines[0]
    assert lines[1:4] == [
        '  dtype: "float32" then, "float16" now',
        '  recipe: null then, "photos" now',
        "  shard_size: 10 then, 11 now",
    ]
    assert lines[4].startswith("Use the same options as then, or another --out")
    assert contents(tmp_path / "s") == before


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.txt").write_text("mine")
    with (
        pytest.raises(StoreError, match=r"not empty .* but holiday\.txt"),
        open_builder(tmp_path, plan_of(KNOWN, 10)),
    ):
        pass
    assert contents(tmp_path) == {"holiday.txt": b"mine"}


def test_one_process_at_a_time(tmp_path: Path) -> None:
    plan = plan_of(KNOWN, 10)
    with (
        open_builder(tmp_path / "s", plan),
        pytest.raises(StoreError, match="Another process is writing"),
        open_builder(tmp_path / "s", plan),
    ):
        pass
    with open_builder(tmp_path / "s", plan) as builder:
        assert not builder.finished


def test_streams_that_do_not_align(tmp_path: Path) -> None:
    with open_builder(tmp_path / "s", plan_of(KNOWN, 10)) as builder:
        short = {
            "s0": Vectors(np.zeros((2, 3), np.float32), np.array([1, 1])),
            "s1": Vectors(np.zeros((1, 4), np.float32), np.array([1])),
        }
        says = "Stream `s1` does not align: 1 vectors and 1 counts for 2 rows"
        with builder.new_shard() as writer, pytest.raises(StoreError, match=says):
            writer.append(KNOWN.rows[:2], short)


@pytest.mark.parametrize(
    ("value", "dtype", "says"),
    [
        (np.nan, "float32", "Check the encoder's weights"),
        (np.inf, "float16", "Check the encoder's weights"),
        (70_000.0, "float16", "values beyond float16, first in row 'row 1'. Use --dtype float32"),
    ],
)
def test_values_that_cannot_be_stored(tmp_path: Path, value: float, dtype: str, says: str) -> None:
    plan = plan_of(KNOWN, 10, dtype)  # pyright: ignore[reportArgumentType]
    acts = np.zeros((3, 3), np.float32)
    acts[2, 1] = value
    vectors = {
        "s0": Vectors(acts, np.array([2, 1])),
        "s1": Vectors(np.zeros((0, 4), np.float32), np.array([0, 0])),
    }
    with (
        open_builder(tmp_path / "s", plan) as builder,
        builder.new_shard() as writer,
        pytest.raises(StoreError, match=says),
    ):
        writer.append(KNOWN.rows[:2], vectors)
    assert not list((tmp_path / "s/shards").iterdir())


def test_a_store_without_rows_is_refused(tmp_path: Path) -> None:
    with open_builder(tmp_path / "s", plan_of(KNOWN, 10)) as builder:
        skipped = [Skipped(id="a.jpg", reason="the image is empty")]
        builder.shards.append(builder.new_shard().finish(1, skipped, []))
        with pytest.raises(StoreError, match=r"No row is left .* 1 items .*a\.jpg: the image is"):
            builder.finish()


def test_full_disk_keeps_what_is_finished(tmp_path: Path) -> None:
    """The limit on a file's size stands for the disk: the kernel refuses the write likewise."""
    write_truth(tmp_path / "whole", KNOWN, 10)
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from tests.training.activations.naive import truth, write_truth\n"
        "from koine.errors import StoreError\n"
        "known = truth(23, [(1, 1), (0, 3)])\n"
        "import training.activations.shards as shards\n"
        "writers = []\n"
        "made = shards.ShardWriter.__init__\n"
        "def count(self, *args):\n"
        "    writers.append(self)\n"
        "    if len(writers) == 3: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "    made(self, *args)\n"
        "shards.ShardWriter.__init__ = count\n"
        "try: write_truth(Path(sys.argv[1]), known, 10)\n"
        "except StoreError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "s")],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "cannot grow: File too large. Kept: 2 finished shards with 20 rows" in done.stdout
    assert "Make room and run the same command again" in done.stdout
    write_truth(tmp_path / "s", KNOWN, 10)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")
    assert len(store_of(tmp_path / "again", KNOWN, 10)) == 23
