"""`python -m benchmarks.serving [NAME…]`: runs the serving benchmarks, keeps and shows results.

Collects `entries()` of the modules below, merges them by name into
benchmarks/results/serving.json, and writes the table in benchmarks/README.md anew.
"""

from __future__ import annotations

import signal
import sys

from benchmarks.report import Report

REPORT = Report(
    "serving", ("efficiency", "openloop", "overload", "poison", "counters", "startup", "chaos")
)

if __name__ == "__main__":
    # so that servers are stopped when this is
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(REPORT.main())
