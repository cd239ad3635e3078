"""Evidently itself, installed into an environment of its own, on windows of the made traffic: what
a window costs, and that its scores are those which the other benchmarks compute for all windows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.entry import Entry, entry
from benchmarks.monitoring.peers import evidently, z_test
from benchmarks.monitoring.traffic import INDEPENDENT, Fires, Window, long_tailed_rates, reference
from benchmarks.monitoring.traffic import window as traffic_window
from benchmarks.monitoring.values import SPREAD
from benchmarks.monitoring.values import score as value_score
from koine.codes import PAD
from koine.drift.verdict import DriftConfig, judge

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements" / "evidently.lock"
NUM_CONCEPTS, REFERENCE = 8192, 50_000
SMALL_REFERENCE = 1000
"""Up to here Evidently takes tests with p-values, above distances."""
SIZES = (500, 2000, 10_000)
PART = 128
"""Columns whose scores are compared, evenly chosen."""
COST = 2048
"""Columns of the window whose cost is taken; all would take four times as long."""
HOURLY = 2000
"""Its items."""
TOLERANCE = 1e-4
"""Of a score: Evidently keeps activations as 32-bit floats."""


class Reported(NamedTuple):
    """What Evidently said."""

    version: str
    seconds: float
    share: float
    scores: list[float]
    methods: list[str]
    thresholds: list[float]


def entries() -> list[Entry]:
    """Scores and costs; the first are met where Evidently's are the ones we compute."""
    rates_C = long_tailed_rates(NUM_CONCEPTS, 0)
    then, profile = reference(rates_C, REFERENCE, 0, INDEPENDENT)
    then_NC = _columns(then, 1)
    found: list[Entry] = []
    with tempfile.TemporaryDirectory() as folder:
        python = environment(Path(folder) / "evidently")
        for size in SIZES:
            now = traffic_window(rates_C, size, 10_000, INDEPENDENT)
            now_NC = _columns(now, 2)
            found += _compared(python, then_NC, now_NC)
            if size == HOURLY:
                told = report(python, then_NC[:, :COST], now_NC[:, :COST])
                began = time.perf_counter()
                judge(profile, now.profile(), DriftConfig())
                found.append(_cost(told, time.perf_counter() - began))
    return found


def _compared(python: Path, then_NC: np.ndarray, now_NC: np.ndarray) -> Iterator[Entry]:
    part = np.linspace(0, NUM_CONCEPTS - 1, PART).astype(np.int64)
    then_NP, now_NP = then_NC[:, part], now_NC[:, part]
    size = f"{len(now_NC)} items"
    told = report(python, then_NP, now_NP)
    yield _same(f"0/1, {size}", told, evidently(_fires(then_NP), _fires(now_NP)).score_C)
    small_NP = then_NP[:SMALL_REFERENCE]
    told = report(python, small_NP, now_NP)
    yield _same(
        f"0/1, {size}, reference of {SMALL_REFERENCE}",
        told,
        -z_test(_fires(small_NP), _fires(now_NP)).score_C,
    )
    then_NP, now_NP = _valued(then_NP, 3), _valued(now_NP, 4)
    ours = [
        value_score(a[a > 0], len(a), b[b > 0], len(b))
        for a, b in zip(then_NP.T, now_NP.T, strict=True)
    ]
    yield _same(f"activations, {size}", report(python, then_NP, now_NP), np.array(ours))


def environment(path: Path) -> Path:
    """Python of a new environment that holds Evidently; SystemExit where it cannot be made."""
    uv, python = str(Path(sys.executable).with_name("uv")), path / "bin" / "python"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(path)], check=True)
    done = subprocess.run(
        [uv, "pip", "install", "-q", "--python", str(python), "--require-hashes", "-r", str(LOCK)],
        env={**os.environ, "UV_LINK_MODE": "hardlink"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"Evidently cannot be installed here, so it is not measured: {done.stderr}")
    return python


def report(python: Path, reference_NC: np.ndarray, current_NC: np.ndarray) -> Reported:
    """Evidently's data drift preset on two tables."""
    with tempfile.TemporaryDirectory() as folder:
        tables = Path(folder) / "tables.npz"
        np.savez(tables, reference=reference_NC, current=current_NC)
        script = Path(__file__).with_name("evidently_report.py")
        done = subprocess.run(
            [python, "-W", "ignore", str(script), str(tables)],
            env={**os.environ, "DO_NOT_TRACK": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
    return Reported(**json.loads(done.stdout.splitlines()[-1]))


def _columns(window: Window, seed: int) -> np.ndarray:
    """1 where an item has a concept, in any order of items."""
    indices_NK, _ = window.codes(seed)
    columns_NC = np.zeros((len(indices_NK), window.fires_BC.shape[1]), np.int8)
    row_F, slot_F = np.nonzero(indices_NK != PAD)
    columns_NC[row_F, indices_NK[row_F, slot_F]] = 1
    return columns_NC


def _valued(columns_NC: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (columns_NC * rng.lognormal(0, SPREAD, columns_NC.shape)).astype(np.float32)


def _fires(columns_NC: np.ndarray) -> Fires:
    return Fires(len(columns_NC), columns_NC.sum(0, dtype=np.int64))


def _same(name: str, told: Reported, ours_P: np.ndarray) -> Entry:
    """How far scores are apart, of the columns that get the usual method."""
    method, count = Counter(told.methods).most_common(1)[0]
    usual_P = np.array([each == method for each in told.methods])
    scores_P = np.array(told.scores)
    usual_P &= np.isfinite(scores_P)
    apart = float(np.abs(scores_P - ours_P)[usual_P].max())
    print(
        f"Evidently {told.version}, {name}: {Counter(told.methods)}, apart {apart:.2g}", flush=True
    )
    return entry(
        f"Evidently {told.version}, {name}: scores apart from ours / may be",
        apart,
        TOLERANCE,
        ratio=TOLERANCE / max(apart, 1e-12),
        target=1.0,
        unit=f"{method}, {count} of {PART} columns",
    )


def _cost(told: Reported, ours: float) -> Entry:
    return entry(
        f"{HOURLY} items: Koine, {NUM_CONCEPTS} concepts / Evidently {told.version}, {COST}",
        ours,
        told.seconds,
        ratio=told.seconds / ours,
        target=None,
        unit="s",
    )
