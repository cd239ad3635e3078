"""Results kept beside what they were measured on, so that an interrupted bench goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training.checkpoint import write_json

MEASURED = 1
"""Raised whenever a figure's meaning changes: what was measured before is measured again."""


def remembered(path: Path, of: Any, measure: Callable[[], Any]) -> Any:
    """What `path` holds if it was measured on `of`, else what `measure` finds, written there."""
    identity = json.loads(json.dumps({"measured": MEASURED, "of": of}))
    try:
        found = json.loads(path.read_text())
        if found["identity"] == identity:
            return found["value"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass  # nothing there yet, or a file that is none of ours: measure
    value = json.loads(json.dumps(measure(), allow_nan=False))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"identity": identity, "value": value})
    return value
