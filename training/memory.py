"""How much memory is free for features, on the machine and on a device; allocates nothing."""

from __future__ import annotations

from pathlib import Path

import torch

GIB = 1 << 30
SHARE = 0.5
"""Of what is free, taken for features where no budget is given: the step needs the rest."""

_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)
"""Limit and use of a container, versions 2 and 1."""


def free_on_machine() -> int:
    """Bytes that new allocations may take without swapping, a container's limit included."""
    free = [_meminfo("MemAvailable")]
    for limit, used in _CGROUPS:
        try:
            free.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # no such cgroup, or its limit is "max"
            continue
    return max(0, min(free))


def free_on_device(device: torch.device) -> int:
    """Bytes free on a CUDA device."""
    return torch.cuda.mem_get_info(device)[0]


def _meminfo(name: str) -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        key, value = line.split(":")
        if key == name:
            return int(value.split()[0]) * 1024
    return 0
