"""Writes a report beside its run: report.json for programs, report.html for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from training.activations.files import write_atomic
from training.evaluation.page import page
from training.evaluation.pictures import NO_PICTURES, Pictures

JSON_FILE, HTML_FILE = "report.json", "report.html"


def write_report(run: Path, report: dict[str, Any], pictures: Pictures = NO_PICTURES) -> None:
    """Both files, each whole or not at all; numbers that are not finite are a bug."""
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomic(run / JSON_FILE, (text + "\n").encode())
    write_atomic(run / HTML_FILE, page(report, pictures).encode())
