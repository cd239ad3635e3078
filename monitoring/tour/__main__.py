"""`python -m monitoring.tour`: quiet traffic, a drift, the alarm, its end, and a picture of it.

`DEMO_EXIT=1` ends it there; otherwise all stays up until Ctrl-C. Exit 0: the alert rang and
ended; 1: it did not, or something ended by itself; 2: something is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from koine.artifact import Artifact
from koine.errors import KoineError, RequestError, ServiceUnavailableError, SourceError
from monitoring.prometheus_api import Prometheus
from monitoring.render import render
from monitoring.replay.corpus import Corpus
from monitoring.replay.drifts import Degraded, read_drift
from monitoring.replay.sender import Plan
from monitoring.tour.phases import ALERT, Phases
from monitoring.tour.processes import Processes, check_programs
from monitoring.tour.receiver import Receiver
from monitoring.tour.stack import Stack, Windows


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    args = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _tour(args)
    except KoineError as error:
        print(f"{error.title}: {error}", file=sys.stderr)
        return 2 if isinstance(error, RequestError | SourceError) else 1
    except KeyboardInterrupt:
        print("\nstopped")
        return 130


def _tour(args: argparse.Namespace) -> int:
    check_programs()
    out, artifact = args.out.resolve(), args.artifact.resolve()
    drift = read_drift(args.drift or ["label=red x3"])
    corpus = Corpus(args.corpus)
    degraded = Degraded(Artifact.open(artifact), drift.streams) if drift.streams else None
    _empty(out)
    with Receiver(lambda notice: _say(f"webhook: {notice}")) as receiver, Processes(out) as running:
        windows = Windows(window_s=args.window, bucket_s=args.bucket, reference=args.reference)
        stack = Stack(artifact=artifact, folder=out, windows=windows, receiver_port=receiver.port)
        _say(f"Redis, service, drift worker, Prometheus and Alertmanager start; logs in {args.out}")
        stack.start(running)
        began = time.time()

        def draw(name: str) -> None:
            with Prometheus(stack.prometheus) as prometheus:
                for path in render(prometheus, out / "dashboards" / name, began, time.time()):
                    _say(f"drawn: {path}")

        phases = Phases(
            stack=stack,
            corpus=corpus,
            plan=Plan(rate=args.rate, segments=("shop", "street")),
            drift=drift,
            degraded=degraded,
            receiver=receiver,
            tell=_say,
            draw=draw,
            quiet_windows=args.quiet,
        )
        well = asyncio.run(phases.run())
        _say(f"{ALERT} {'rang and ended' if well else 'did NOT ring and end'}")
        if os.environ.get("DEMO_EXIT") != "1":
            _stay(stack, running)
    return 0 if well else 1


def _empty(out: Path) -> None:
    """Removes what an earlier run left. Raises `RequestError` for a folder of something else."""
    if not out.exists() or not any(out.iterdir()):
        return
    if not (out / "redis.log").is_file():
        raise RequestError(f"{out} holds something else: name another `--out`, which is emptied")
    shutil.rmtree(out)


def _stay(stack: Stack, running: Processes) -> None:
    """Until Ctrl-C. Raises `ServiceUnavailableError` where something ends by itself."""
    _say(f"service        {stack.service}/docs {stack.service}/v1/drift")
    _say(f"drift worker   http://127.0.0.1:{stack.drift_port}/metrics")
    _say(f"Prometheus     {stack.prometheus}/alerts")
    _say(f"Alertmanager   {stack.alertmanager}")
    _say("All of it stays up; Ctrl-C stops it.")
    while (ended := running.ended()) is None:
        time.sleep(1)
    raise ServiceUnavailableError(f"{ended} ended by itself; {running.log(ended)} says why")


def _say(line: str) -> None:
    # in one piece: the webhook speaks from threads of its own
    print(f"{line}\n", end="", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m monitoring.tour", description=__doc__)
    add = parser.add_argument
    add("--artifact", type=Path, default=Path("runs/demo/artifact"), help="what is served")
    add("--corpus", type=Path, default=Path("runs/demo/corpus"), help="what is sent")
    add("--out", type=Path, default=Path("runs/monitoring"), help="emptied; logs, data, pictures")
    add("--drift", action="append", help="as of python -m monitoring.replay ('label=red x3')")
    add("--rate", type=float, default=40.0, help="items a second (40)")
    add("--window", type=int, default=20, help="seconds of a window (20)")
    add("--bucket", type=int, default=2, help="seconds of a bucket (2)")
    add("--quiet", type=int, default=5, help="quiet windows with a verdict ahead of the drift (5)")
    add(
        "--reference",
        choices=("artifact", "live"),
        default="artifact",
        help="KOINE_DRIFT_REFERENCE",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
