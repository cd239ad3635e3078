"""Runs in Evidently's own environment: a report on two tables of columns, as its documentation
says; prints its scores. Knows nothing of Koine.
"""

# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false
from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd  # pyright: ignore[reportMissingTypeStubs]
from evidently import Report
from evidently.presets import DataDriftPreset


def main(path: str) -> None:
    """`path`: an npz with the arrays `reference` and `current`, one column a concept."""
    arrays = np.load(path)
    names = [f"c{number}" for number in range(arrays["reference"].shape[1])]
    reference, current = (
        pd.DataFrame(arrays[name], columns=names) for name in ("reference", "current")
    )
    began = time.perf_counter()
    found: list[dict[str, Any]] = (
        Report([DataDriftPreset()]).run(current, reference).dict()["metrics"]
    )
    columns = {one["config"]["column"]: one for one in found[1:]}
    print(
        json.dumps(
            {
                "version": version("evidently"),
                "seconds": time.perf_counter() - began,
                "share": float(found[0]["value"]["share"]),
                "scores": [float(columns[name]["value"]) for name in names],
                "methods": [columns[name]["config"]["method"] for name in names],
                "thresholds": [columns[name]["config"]["threshold"] for name in names],
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
