"""Which cores and which GPU a worker computes on; loads nothing."""

from __future__ import annotations

import os
from pathlib import Path

import bentoml

CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")
"""Of the container: quota and period in microseconds, or `max`."""


def cores_of_worker(workers: int, limit: Path = CPU_LIMIT) -> int:
    """A worker's share of the cores that this process may use, at least one."""
    return max(1, available_cores(limit) // workers)


def available_cores(limit: Path = CPU_LIMIT) -> int:
    """The smaller of the process's affinity and the container's limit, rounded up."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        cores = os.cpu_count() or 1
    try:
        quota, period = limit.read_text().split()
    except (OSError, ValueError):  # no container, or none with such a file
        return cores
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return cores
    return max(1, min(cores, -(-int(quota) // int(period))))


def gpu_of_worker(gpus: int, worker: int | None = None) -> int:
    """Workers take the GPUs in turn; a process that is no worker takes the first."""
    if worker is None:
        worker = bentoml.server_context.worker_index or 1
    return (worker - 1) % gpus if gpus else 0
