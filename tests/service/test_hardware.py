"""How cores and GPUs are shared out among workers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.hardware import available_cores, cores_of_worker, gpu_of_worker
from service.jobs import _missing_to_bucket


@pytest.mark.parametrize(
    ("text", "cores"),
    [("max 100000", 8), ("150000 100000", 2), ("400000 100000", 4), ("5000 100000", 1),
     ("9900000 100000", 8), ("", 8), ("garbage", 8), ("100000 0", 8)],
)  # fmt: skip
def test_cores_keep_to_the_containers_limit(
    text: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    (tmp_path / "cpu.max").write_text(text)
    assert available_cores(tmp_path / "cpu.max") == cores


def test_workers_share_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    shares = [cores_of_worker(workers, tmp_path / "none") for workers in (1, 3, 8, 20)]
    assert shares == [8, 2, 1, 1]


def test_workers_take_gpus_in_turn() -> None:
    assert [gpu_of_worker(3, worker) for worker in (1, 2, 3, 4)] == [0, 1, 2, 0]
    assert gpu_of_worker(0, 5) == 0
    assert gpu_of_worker(4) == 0


@pytest.mark.parametrize(("items", "missing"), [(1, 0), (2, 0), (3, 1), (5, 3), (32, 0), (33, 31)])
def test_batches_are_filled_to_powers_of_two_on_a_gpu_only(items: int, missing: int) -> None:
    assert _missing_to_bucket(items, "CUDAExecutionProvider") == missing
    assert _missing_to_bucket(items, "CPUExecutionProvider") == 0
