"""Where features lie changes no bit of a run, and memory stays bounded where they are mapped."""

from __future__ import annotations

import dataclasses
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from koine.errors import StoreError
from tests.training.stores import atoms_store, write_store
from training import feed as feeds
from training.activations.manifest import DType
from training.activations.store import ActivationStore
from training.configs import FitConfig
from training.feed import AHEAD, Feed, open_feed
from training.trainer import fit

CPU = torch.device("cpu")
CONFIG = FitConfig(
    num_concepts=48, k=4, batch_size=32, steps=40, lr=3e-3, validate_every=20, checkpoint_every=10
)


@pytest.fixture(params=["float32", "float16"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> ActivationStore:
    """Several shards, captions to draw from, rows that lack a stream."""
    dtype: DType = request.param
    return atoms_store(tmp_path / "store", unpaired=True, dtype=dtype, shard_rows=64)


@pytest.fixture(autouse=True)
def _threads_end() -> Iterator[None]:
    yield
    assert [t.name for t in threading.enumerate() if t.name.startswith("feed")] == []


def mapped(store: ActivationStore) -> Feed:
    return open_feed(store, CONFIG, CPU, memory=0.0)


def test_mapped_and_resident_batches_are_the_same_bits(store: ActivationStore) -> None:
    resident = open_feed(store, CONFIG, CPU).batches(0, 30)
    for there, here in zip(mapped(store).batches(0, 30), resident, strict=True):
        for name, acts_ND in there.acts.items():
            assert torch.equal(acts_ND, here.acts[name])
            assert acts_ND.dtype == here.acts[name].dtype == torch.float32
        assert torch.equal(there.present_NS, here.present_NS)
        assert torch.equal(there.selecting_NS, here.selecting_NS)
        assert torch.equal(there.counted_N, here.counted_N)


def test_batches_do_not_depend_on_where_reading_began(store: ActivationStore) -> None:
    late = list(mapped(store).batches(25, 30))
    whole = list(mapped(store).batches(0, 30))[25:]
    for one, other in zip(late, whole, strict=True):
        assert all(torch.equal(acts_ND, other.acts[name]) for name, acts_ND in one.acts.items())


def test_runs_from_memory_and_from_maps_are_the_same_bits(
    store: ActivationStore, tmp_path: Path
) -> None:
    for name, memory in (("resident", None), ("mapped", 0.0)):
        fit(store, CONFIG, tmp_path / name, device="cpu", memory=memory)
    weights = [load_file(tmp_path / n / "model.safetensors") for n in ("resident", "mapped")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    histories = [(tmp_path / n / "history.jsonl").read_text() for n in ("resident", "mapped")]
    assert histories[0] == histories[1]


@pytest.mark.parametrize(
    ("memory", "free", "words"),
    [
        (None, 1 << 30, "GiB in RAM (0.50 GiB may be taken)"),
        (None, 1 << 10, "memory-mapped"),
        (0.0, 1 << 30, "memory-mapped (0.00 GiB may be taken); 4 threads read up to 6 steps ahead"),
        (8.0, 1 << 10, "memory-mapped"),
    ],
)
def test_the_choice_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    memory: float | None,
    free: int,
    words: str,
) -> None:
    monkeypatch.setattr(feeds, "free_on_machine", lambda: free)
    with caplog.at_level(logging.INFO, logger="training.feed"):
        open_feed(atoms_store(tmp_path / "store"), CONFIG, CPU, memory=memory)
    assert words in caplog.text


def test_no_more_is_read_ahead_than_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = mapped(atoms_store(tmp_path / "store"))
    steps: list[int] = []
    make = feed._make
    monkeypatch.setattr(feed, "_make", lambda step: (steps.append(step), make(step))[1])
    batches = feed.batches(0, 30)
    next(batches)
    batches.close()
    assert len(steps) <= AHEAD + 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda file: os.truncate(file, 200),
            "was changed while it was in use: expected .* got 200",
        ),
        (lambda file: file.unlink(), "image.npy cannot be read any more.*Restore the file"),
    ],
    ids=["truncated", "removed"],
)
def test_a_shard_lost_meanwhile_is_named(tmp_path: Path, damage: object, message: str) -> None:
    store = atoms_store(tmp_path / "store", shard_rows=100)
    batches = mapped(store).batches(0, 40)
    next(batches)
    assert callable(damage)
    damage(tmp_path / "store/shards/00002/image.npy")
    with pytest.raises(StoreError, match=message):
        list(batches)


def test_an_error_of_a_later_step_comes_after_the_steps_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = mapped(atoms_store(tmp_path / "store"))
    make = feed._make

    def failing(step: int) -> feeds.StepBatch:
        if step == 9:
            raise StoreError("step nine")
        return make(step)

    monkeypatch.setattr(feed, "_make", failing)
    batches = feed.batches(0, 30)
    for _ in range(9):
        next(batches)
    with pytest.raises(StoreError, match="step nine"):
        next(batches)


MEASURED = """
import sys, threading
from pathlib import Path
from training.activations.store import ActivationStore
from training.configs import FitConfig
from training.trainer import fit

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

config = FitConfig(num_concepts=16, k=2, batch_size=64, steps=60, checkpoint_every=60)
store = ActivationStore.open(sys.argv[1], verify=False)
peak, done = 0, threading.Event()
def sample():
    global peak
    while not done.wait(0.01):
        peak = max(peak, anonymous())
thread = threading.Thread(target=sample)
thread.start()
fit(store, config, Path(sys.argv[2]), device="cpu", memory=float(sys.argv[3]))
done.set()
thread.join()
print(peak)
"""


def test_mapped_features_take_no_anonymous_memory(tmp_path: Path) -> None:
    """A store of 250 MiB: in RAM its 150 MiB of training rows are seen, mapped they are not."""
    rows = np.random.default_rng(0).standard_normal((16_000, 1, 4096), np.float32)
    write_store(tmp_path / "store", {"wide": list(rows)}, shard_rows=4000)
    peaks = []
    for name, memory in (("mapped", "0"), ("resident", "4")):
        run = subprocess.run(
            [sys.executable, "-c", MEASURED, tmp_path / "store", tmp_path / name, memory],
            capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=120,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        peaks.append(int(run.stdout) / 1024)
    assert peaks[1] - peaks[0] > 100, peaks


def test_configurations_share_no_state(tmp_path: Path) -> None:
    """Windows of the shuffle are kept by seed: another seed reads other rows."""
    store = atoms_store(tmp_path / "store")
    one, other = (
        next(open_feed(store, dataclasses.replace(CONFIG, seed=seed), CPU).batches(0, 1))
        for seed in (1, 2)
    )
    assert not torch.equal(one.acts["image"], other.acts["image"])
