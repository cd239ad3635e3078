"""`python -m benchmarks.training [NAME…]`: runs the training benchmarks, keeps and shows results.

Collects `entries()` of the modules below that exist, merges them by name into
benchmarks/results/training.json, and writes the table in benchmarks/README.md anew.
"""

from __future__ import annotations

import sys

from benchmarks.report import Report

REPORT = Report("training", ("step", "store", "quality", "extension"))

if __name__ == "__main__":
    sys.exit(REPORT.main())
