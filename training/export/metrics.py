"""The main figures of a run's report, flat, for the manifest; computes none."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from koine.errors import ExportError

_MAIN = (
    "active_jaccard.mean",
    "active_jaccard_adjusted.mean",
    "label_jaccard.alive",
    "latents.dead",
)
"""One figure each; besides them every stream's own fvu, every pair's R@1, and, encoded
independently as in serving, every pair's fvu."""


def metrics_summary(run: Path) -> dict[str, float]:
    """Main figures of `RUN/report.json`, joint and independent; empty if it was not evaluated."""
    path = run / "report.json"
    if not path.is_file():
        return {}
    try:
        report = json.loads(path.read_bytes())
    except ValueError as error:
        raise ExportError(f"{path} is damaged ({error}); evaluate the run again") from error
    summary: dict[str, float] = {}
    for mode in ("joint", "independent"):
        figures = report.get(mode) or {}
        for name in _MAIN:
            _keep(summary, f"{mode}.{name}", _at(figures, name))
        for pair, value in (figures.get("fvu") or {}).items():
            source, _, target = pair.partition("->")
            if source == target or mode == "independent":
                _keep(summary, f"{mode}.fvu.{pair}", value)
        for pair, ranks in (figures.get("retrieval") or {}).items():
            _keep(summary, f"{mode}.retrieval.{pair}.r1", ranks.get("r1"))
    return summary


def _at(figures: Mapping[str, Any], name: str) -> Any:
    first, _, rest = name.partition(".")
    return (figures.get(first) or {}).get(rest)


def _keep(summary: dict[str, float], name: str, value: Any) -> None:
    if isinstance(value, int | float) and math.isfinite(value):
        summary[name] = float(value)
