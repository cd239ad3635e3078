"""`evaluate`: a finished run → report.json and report.html."""

from __future__ import annotations

import argparse
from pathlib import Path

from training.evaluation.evaluate import evaluate
from training.evaluation.report import HTML_FILE, JSON_FILE, write_report
from training.evaluation.summary import console

HELP = "measure a run on held-out rows, joint and independent, beside an untrained control"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run and what to compare it with; store and held-out rows are those the run records."""
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="run directory that `fit` wrote")
    parser.add_argument(
        "--controls",
        action="store_true",
        help="also fit and measure Local TopK, no cross-reconstruction and SPARC as published",
    )
    parser.add_argument("--out", type=Path, help="folder for the report; default: RUN")
    parser.add_argument("--store", type=Path, help="the run's activation store, if it has moved")
    parser.add_argument("--device", help="torch device; default: cuda where there is one")
    parser.add_argument(
        "--no-verify", action="store_true", help="skip the check of the store's SHA-256 hashes"
    )


def run(args: argparse.Namespace) -> None:
    """Measure, write the report, and print its main figures."""
    report = evaluate(
        args.run_dir,
        controls=args.controls,
        store_path=args.store,
        verify=not args.no_verify,
        device=args.device,
    )
    out = args.out or args.run_dir
    out.mkdir(parents=True, exist_ok=True)
    write_report(out, report)
    print(console(report))
    print(f"\n{out / JSON_FILE} and {out / HTML_FILE}: {report['seconds']} s")
