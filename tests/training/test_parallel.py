"""`torchrun` with two workers: one worker's results, resumed, and ended when a worker is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.training.stores import atoms_store
from training.activations.store import ActivationStore
from training.configs import FitConfig
from training.feed import open_feed
from training.parallel import Group

LIMIT_S = 150


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ActivationStore:
    return atoms_store(tmp_path_factory.mktemp("atoms") / "store", unpaired=True)


def words(store: ActivationStore, run: Path, *more: str) -> list[str]:
    """`fit` with dead latents, AuxK, resampling and rows that lack a stream."""
    return [
        "-m", "training", "fit", "--store", str(store.path), "--out", str(run),
        "--num-concepts", "64", "--k", "4", "--batch-size", "32", "--steps", "120",
        "--validate-every", "40", "--checkpoint-every", "10", "--device", "cpu", *more,
    ]  # fmt: skip


def start(words: list[str], workers: int, errors: Path) -> subprocess.Popen[bytes]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(workers)]
    command = [sys.executable, *(torchrun if workers > 1 else []), *words]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    with errors.open("wb") as file:
        return subprocess.Popen(command, env=env, stderr=file, stdout=file)


def fitted(words: list[str], workers: int, errors: Path) -> None:
    process = start(words, workers, errors)
    assert process.wait(LIMIT_S) == 0, errors.read_text()


def history(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def assert_same_curves(one: Path, two: Path) -> None:
    """To 1e-3: float32 sums in another order, carried on by Adam for 120 steps, change 1e-5."""
    assert [line.keys() for line in history(one)] == [line.keys() for line in history(two)]
    for alone, together in zip(history(one), history(two), strict=True):
        assert together == pytest.approx(alone, rel=1e-3, abs=1e-6)


def workers_of(process: subprocess.Popen[bytes]) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in children]


@pytest.mark.parametrize(
    "method", [("--selector", "shared"), ("--selector", "pre_codes"), ("--method", "sparc")]
)
def test_two_workers_give_the_curve_of_one(
    store: ActivationStore, tmp_path: Path, method: tuple[str, str]
) -> None:
    for workers in (1, 2):
        run = tmp_path / str(workers)
        more = (*method, "--lr", "3e-3")
        fitted(words(store, run, *more), workers, tmp_path / "errors")
    assert_same_curves(tmp_path / "1", tmp_path / "2")
    if "pre_codes" in method:  # as published, latents count as dead after 1,000 steps
        assert any(line.get("dead") for line in history(tmp_path / "1")), "AuxK was not tested"
    weights = [load_file(tmp_path / name / "model.safetensors") for name in "12"]
    for name, alone in weights[0].items():
        torch.testing.assert_close(weights[1][name], alone, rtol=1e-2, atol=1e-3)


@pytest.mark.slow
def test_a_lost_worker_ends_the_job_and_it_resumes(store: ActivationStore, tmp_path: Path) -> None:
    fitted(words(store, tmp_path / "whole"), 2, tmp_path / "errors")
    torn, errors = tmp_path / "torn", tmp_path / "errors"
    process = start(words(store, torn), 2, errors)
    while not (torn / "checkpoint.safetensors").is_file() and process.poll() is None:
        time.sleep(0.01)
    os.kill(workers_of(process)[1], signal.SIGKILL)
    lost = time.monotonic()
    assert process.wait(60) not in (0, None)
    assert time.monotonic() - lost < 60
    assert not (torn / "fit.json").exists(), "it ended before the worker was lost: add steps"
    assert "SIGKILL" in errors.read_text() or "Signal 9" in errors.read_text()

    fitted(words(store, torn), 2, errors)
    for name in ("model.safetensors", "checkpoint.safetensors"):
        whole, resumed = load_file(tmp_path / "whole" / name), load_file(torn / name)
        assert all(torch.equal(whole[key], resumed[key]) for key in whole), name
    assert history(torn) == history(tmp_path / "whole")


def test_no_thread_of_the_group_outlives_it(store: ActivationStore, tmp_path: Path) -> None:
    """One that did aborted some of the workers as the interpreter shut down."""
    command = ["-m", "tests.training.threads_left", *words(store, tmp_path / "run")[2:]]
    fitted([*command, "--steps", "2"], 2, tmp_path / "errors")


def test_batches_that_do_not_divide_are_refused(store: ActivationStore) -> None:
    config = FitConfig(num_concepts=8, k=2, batch_size=32)
    group = Group(rank=1, size=3, local_size=3)
    with pytest.raises(ValueError, match="`batch_size` must divide by the 3 workers, got 32.*30"):
        open_feed(store, config, torch.device("cpu"), group=group)


def test_workers_parts_make_up_the_batch(store: ActivationStore) -> None:
    config = FitConfig(num_concepts=8, k=2, batch_size=32)
    whole = next(open_feed(store, config, torch.device("cpu")).batches(3, 4))
    parts = []
    for rank in range(4):
        group = Group(rank=rank, size=4)
        parts.append(next(open_feed(store, config, torch.device("cpu"), group=group).batches(3, 4)))
    for mask in ("present_NS", "selecting_NS", "counted_N"):
        together = torch.cat([getattr(part, mask) for part in parts])
        assert torch.equal(getattr(whole, mask), together)
    for name, acts_ND in whole.acts.items():
        assert torch.equal(acts_ND, torch.cat([part.acts[name] for part in parts]))
