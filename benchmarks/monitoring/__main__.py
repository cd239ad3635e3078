"""`python -m benchmarks.monitoring [NAME…]`: runs the monitoring benchmarks, keeps the results.

Collects `entries()` of the modules below that exist, merges them by name into
benchmarks/results/monitoring.json, and writes the table in benchmarks/README.md anew.
"""

from __future__ import annotations

import sys

from benchmarks.report import Report

REPORT = Report(
    "monitoring",
    ("windows", "power", "delay", "streams", "evidently_scores", "topics", "audit", "tax"),
)

if __name__ == "__main__":
    sys.exit(REPORT.main())
