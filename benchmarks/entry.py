"""What a benchmark reports of one comparison, with where and when it was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import date
from pathlib import Path
from typing import TypedDict


class Entry(TypedDict):
    """One comparison; `ratio` at least `target` is good."""

    name: str
    ours: float
    baseline: float
    ratio: float
    target: float | None
    spread: float
    """Standard deviation of the ratio over repetitions."""
    unit: str
    date: str
    commit: str
    hardware: str


def entry(
    name: str,
    ours: float,
    baseline: float,
    *,
    ratio: float,
    target: float | None,
    unit: str,
    spread: float = 0.0,
) -> Entry:
    """An entry of today, this commit and this machine."""
    return Entry(
        name=name,
        ours=ours,
        baseline=baseline,
        ratio=ratio,
        target=target,
        spread=spread,
        unit=unit,
        date=date.today().isoformat(),
        commit=commit(),
        hardware=hardware(),
    )


def commit() -> str:
    """The commit that runs, `-dirty` where code differs from it: results may be half written."""
    root = Path(__file__).parents[1]
    named = ["git", "describe", "--always", "--exclude", "*"]
    done = subprocess.run(named, cwd=root, capture_output=True, text=True)
    if not (name := done.stdout.strip()):
        return "unknown"
    changed = ["git", "diff", "--quiet", "HEAD", "--", "*.py", "requirements"]
    return name + "-dirty" * (subprocess.run(changed, cwd=root).returncode != 0)


def hardware() -> str:
    """Processor and threads."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor()}, {os.cpu_count()} threads"
