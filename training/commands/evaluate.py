"""`evaluate`: a finished run → report.json and report.html, or a whole bench around it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from koine.errors import RequestError
from koine.manifest import EXEMPLARS
from training.checkpoint import CONFIG
from training.evaluation.bench.bench import bench
from training.evaluation.bench.plan import LR_GRID, BenchConfig
from training.evaluation.bench.write import JSON_FILE as BENCH_JSON
from training.evaluation.bench.write import MARKDOWN_FILE, PLOT_FILE, write_bench
from training.evaluation.checklist import QUESTIONS
from training.evaluation.decision import verdict_line
from training.evaluation.evaluate import evaluate, open_run
from training.evaluation.names import FOLDER as NAMES
from training.evaluation.pictures import NO_PICTURES, Pictures, pictures, source_of
from training.evaluation.poc import PocConfig
from training.evaluation.report import HTML_FILE, JSON_FILE, write_report
from training.evaluation.summary import console
from training.sources import Source

HELP = "measure a run on held-out rows, joint and independent, beside an untrained control"
BENCH_ONLY = (
    *("seeds", "lr_grid", "sweep_k", "sweep_num_concepts", "sweep_pre_code_weight"),
    "sweep_seeds",
)
REPORT_ONLY = (
    *("threshold", "fail_on_no_go", "names", "artifact", "price_per_core_hour"),
    *("data", "no_images"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run and what to compare it with; store and held-out rows are those the run records."""
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="run directory that `fit` wrote")
    parser.add_argument(
        "--controls",
        action="store_true",
        help="also fit and measure the baselines, one seed each: SPARC as published, Local TopK, "
        "no cross-reconstruction, stream dropout, separate training with matching",
    )
    parser.add_argument(
        "--bench",
        action="store_true",
        help="instead: fit and measure this run's configuration and every baseline over several "
        "seeds, each at its own learning rate; resumes",
    )
    parser.add_argument("--out", type=Path, help="folder for the result; default: RUN, RUN/bench")
    parser.add_argument("--store", type=Path, help="the run's activation store, if it has moved")
    parser.add_argument("--device", help="torch device; default: cuda where there is one")
    parser.add_argument(
        "--no-verify", action="store_true", help="skip the check of the store's SHA-256 hashes"
    )
    _add_poc_arguments(parser)
    _add_bench_arguments(parser)


def _add_poc_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the decision")
    group.add_argument(
        "--threshold",
        action="append",
        default=[],
        metavar="NAME=N",
        help="what the checklist asks, instead of the recipe's; `off` leaves a question out; names:"
        f" {', '.join(QUESTIONS)}",
    )
    group.add_argument(
        "--fail-on-no-go", action="store_true", help="exit with 1 where the verdict is NO-GO"
    )
    group.add_argument("--names", type=Path, help="folder that `name` wrote; default: RUN/names")
    group.add_argument(
        "--artifact", type=Path, help="exported artifact to time; default: RUN/artifact"
    )
    group.add_argument(
        "--price-per-core-hour",
        type=float,
        metavar="N",
        help="what a core costs an hour: the page then states prices per million items",
    )
    group.add_argument(
        "--data", type=Path, help="the folder that `extract` read: shows pictures of items"
    )
    group.add_argument(
        "--no-images",
        action="store_true",
        help="put no picture on the page; captions and ids stay",
    )


def _add_bench_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("with --bench")
    grid = " ".join(f"{lr:g}" for lr in LR_GRID)
    helps = {
        "seeds": (int, "default: the run's and the next two"),
        "lr_grid": (float, f"learning rates that each method chooses from; default: {grid}"),
        "sweep_k": (int, "other values of k to try"),
        "sweep_num_concepts": (int, "other dictionary sizes to try"),
        "sweep_pre_code_weight": (float, "other weights of pre-codes in the own method to try"),
    }
    for name, (kind, says) in helps.items():
        flag = f"--{name.replace('_', '-')}"
        group.add_argument(flag, type=kind, nargs="*", metavar="N", help=says)
    group.add_argument("--sweep-seeds", type=int, metavar="N", help="seeds of the sweeps; 1")


def run(args: argparse.Namespace) -> None:
    """Measure, write the report or the bench, and print the main figures."""
    if args.bench:
        _bench(args)
        return
    given = [name for name in BENCH_ONLY if getattr(args, name) is not None]
    if given:
        flag = given[0].replace("_", "-")
        raise RequestError(f"`--{flag}` belongs to `--bench`: add it, or leave the flag out")
    source = _source(args)
    report = evaluate(
        args.run_dir,
        controls=args.controls,
        store_path=args.store,
        verify=not args.no_verify,
        device=args.device,
        poc=PocConfig(
            thresholds=_thresholds(args.threshold),
            names=args.names,
            artifact=args.artifact,
            price_per_core_hour=args.price_per_core_hour,
        ),
    )
    out = args.out or args.run_dir
    out.mkdir(parents=True, exist_ok=True)
    write_report(out, report, _pictures(args, report, source))
    print(console(report))
    print(f"\n{out / JSON_FILE} and {out / HTML_FILE}: {report['seconds']} s")
    print(verdict_line(report))
    if args.fail_on_no_go and report["checklist"]["verdict"] == "NO-GO":
        raise SystemExit(1)


def _thresholds(given: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign:
            raise RequestError(f"`--threshold {text}` must be NAME=N, such as agreement=.3")
        if name in found:
            raise RequestError(f"`--threshold {name}` was given twice: give one")
        found[name] = value
    return found


def _source(args: argparse.Namespace) -> Source | None:
    """Where items' images are; a wrong folder is told before the work."""
    if args.data is None or args.no_images:
        return None
    return source_of(open_run(args.run_dir, args.store, verify=False).store, args.data)


def _pictures(args: argparse.Namespace, report: dict[str, Any], source: Source | None) -> Pictures:
    if args.no_images:
        return NO_PICTURES
    return pictures(report, (args.names or args.run_dir / NAMES) / EXEMPLARS, source)


def _bench(args: argparse.Namespace) -> None:
    if args.controls:
        raise RequestError("both `--controls` and `--bench` were given: a bench has the controls")
    given = [name for name in REPORT_ONLY if getattr(args, name)]
    if given:
        flag = given[0].replace("_", "-")
        raise RequestError(f"`--{flag}` belongs to the report: leave it or `--bench` out")
    out = args.out or args.run_dir / "bench"
    result = bench(
        args.run_dir,
        out,
        _asked(args),
        store_path=args.store,
        verify=not args.no_verify,
        device=args.device,
    )
    write_bench(out, result)
    print((out / MARKDOWN_FILE).read_text())
    print(f"{out / MARKDOWN_FILE}, {BENCH_JSON}, {PLOT_FILE}: {result['seconds']} s")


def _asked(args: argparse.Namespace) -> BenchConfig:
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name in BENCH_ONLY
        if (value := getattr(args, name)) is not None
    }
    if "seeds" not in given:
        path = args.run_dir / CONFIG
        first = json.loads(path.read_text())["fit"]["seed"] if path.is_file() else 0
        given["seeds"] = (first, first + 1, first + 2)
    return BenchConfig(**given)
