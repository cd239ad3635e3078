"""Processes that each run one `training` command with the tiny recipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[3]


class Ended(NamedTuple):
    """How a process ended."""

    code: int
    """Negative: the signal that killed it."""
    memory_kib: int
    """Most that it held at once."""


class Runs:
    """Starts one process at a time."""

    def __init__(self, log: Path) -> None:
        self.log = log
        with log.open("w") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.training.activations.tiny_recipe", "--fork"],
                cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
            )  # fmt: skip

    def start(self, *words: str) -> int:
        """Start a command; the id of its process."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        return int(self._answer())

    def end(self) -> Ended:
        """Wait for the process to end."""
        return Ended(*map(int, self._answer().split()))

    def close(self) -> None:
        """End the process that starts the others."""
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, self.log.read_text()
        return line
