"""Writes a bench: bench.json for programs, bench.md and bench.png for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from training.activations.files import write_atomic
from training.evaluation.bench.markdown import markdown
from training.evaluation.bench.plot import png

JSON_FILE, MARKDOWN_FILE, PLOT_FILE = "bench.json", "bench.md", "bench.png"


def write_bench(out: Path, bench: dict[str, Any]) -> None:
    """All three files, each whole or not at all; numbers that are not finite are a bug."""
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(bench, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomic(out / PLOT_FILE, png(bench))
    write_atomic(out / MARKDOWN_FILE, markdown(bench).encode())
    write_atomic(out / JSON_FILE, (text + "\n").encode())
