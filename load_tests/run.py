"""`python -m load_tests.run [SCENARIO…]`: each scenario from several processes, results kept.

Without `--host` it starts the service itself, with `--artifact`. `--transport http grpc` runs each
scenario over both. A master and `--workers` workers share the arrivals; results go to
load_tests/results and the table in load_tests/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from typing import NamedTuple

from benchmarks.entry import commit, hardware
from benchmarks.serving.artifacts import Skipped, demo
from benchmarks.serving.server import free_port, serving
from load_tests import results
from load_tests.bodies import ROOT, SCENARIOS, Served, missing
from load_tests.results import Outcome
from load_tests.wires import WIRES

USERS = {
    "photos": "PhotoUser",
    "texts": "TextUser",
    "mixed": "MixedUser",
    "activations": "ActivationsUser",
    "bursts": "BurstUser",
    "poison": "PoisonUser",
}
_EXTRA_S = 120.0
"""Beyond the test itself, for starting, last answers and writing."""


class Service(NamedTuple):
    """Where a service listens."""

    host: str
    """URL of HTTP."""
    grpc_target: str
    """Host and port of gRPC."""


class Plan(argparse.Namespace):
    """What the command line asks for."""

    scenarios: list[str]
    transports: list[str]
    host: str | None
    grpc_target: str | None
    artifact: Path | None
    rate: float
    seconds: float
    workers: int
    photos: int


def parsed(arguments: Sequence[str] | None = None) -> Plan:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument(
        "--transport",
        nargs="+",
        choices=list(WIRES),
        default=["http"],
        dest="transports",
        help="what carries the requests; each in its turn",
    )
    parser.add_argument("--host", help="URL of a running service")
    parser.add_argument("--grpc-target", help="host and port of its gRPC")
    parser.add_argument("--artifact", type=Path, help="what to serve otherwise; default: the demo")
    parser.add_argument("--rate", type=float, default=10.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--workers", type=int, default=2, help="processes that send")
    parser.add_argument("--photos", type=int, default=12, help="different photos")
    plan = parser.parse_args(arguments, namespace=Plan())
    if unknown := [name for name in plan.scenarios if name not in SCENARIOS]:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    if plan.host and "grpc" in plan.transports and not plan.grpc_target:
        parser.error("--host with --transport grpc needs --grpc-target, gRPC's host and port")
    return plan


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, keep, show; 2 where there is nothing to serve."""
    plan = parsed(arguments)
    with ExitStack() as stack:
        try:
            service = _given(plan) or stack.enter_context(_started(plan.artifact))
        except Skipped as reason:
            print(f"load tests need a service: {reason}", file=sys.stderr)
            return 2
        with urllib.request.urlopen(f"{service.host}/v1/info", timeout=30) as answer:
            served = Served.of(json.load(answer))
        for scenario in plan.scenarios or SCENARIOS:
            if lacks := missing(scenario, served):
                print(f"skipped {scenario}: this service reads no {', '.join(lacks)}")
                continue
            for transport in plan.transports:
                outcome = run(scenario, transport, service, plan)
                results.keep([outcome])
                print(results.table([outcome]), flush=True)
    return 0


def _given(plan: Plan) -> Service | None:
    return Service(plan.host, plan.grpc_target or "") if plan.host else None


@contextmanager
def _started(artifact: Path | None) -> Iterator[Service]:
    with serving((artifact or demo()).absolute(), core=None, grpc=True) as server:
        yield Service(server.url, server.grpc_target)


def run(
    scenario: str, transport: str, service: Service, plan: Plan, plots: Path = results.RESULTS
) -> Outcome:
    """One scenario over one transport. RuntimeError where Locust fails, with the end of what it
    said."""
    with tempfile.TemporaryDirectory() as folder:
        prefix = Path(folder) / scenario
        _locust(scenario, transport, service, plan, prefix)
        due, sent = results.read_rows(Path(f"{prefix}_stats.csv"), scenario, transport)
        results.plot(Path(f"{prefix}_stats_history.csv"), scenario, transport, plots)
    requests, failed = int(due["Request Count"]), int(due["Failure Count"])
    return Outcome(
        scenario=scenario,
        transport=transport,
        offered=plan.rate,
        answered=(requests - failed) / plan.seconds,
        requests=requests,
        failed=failed,
        scheduled_ms=results.percentiles(due),
        sent_ms=results.percentiles(sent),
        date=date.today().isoformat(),
        commit=commit(),
        hardware=hardware(),
    )


def _locust(scenario: str, transport: str, service: Service, plan: Plan, prefix: Path) -> None:
    port = str(free_port())
    locust = [sys.executable, "-m", "locust", "-f", "load_tests/locustfile.py"]
    master = [
        *locust, USERS[scenario], "--master", "--headless", "--host", service.host,
        "--master-bind-host", "127.0.0.1", "--master-bind-port", port,
        "--expect-workers", str(plan.workers), "--expect-workers-max-wait", "60",
        "--csv", str(prefix), "--csv-full-history", "--only-summary", "--exit-code-on-error", "0",
        "--arrival-rate", str(plan.rate), "--arrival-seconds", str(plan.seconds),
        "--photos", str(plan.photos),
        "--transport", transport, "--grpc-target", service.grpc_target,
    ]  # fmt: skip
    worker = [*locust, USERS[scenario], "--worker", "--master-host", "127.0.0.1",
              "--master-port", port]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile("w+") as log:
        processes = [
            subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
            for command in [master] + [worker] * plan.workers
        ]
        try:
            status = processes[0].wait(plan.seconds + _EXTRA_S)
        finally:
            for process in processes[1:]:
                _end(process)
            _end(processes[0])
        log.seek(0)
        said = log.read()
    if status or "went missing" in said:
        raise RuntimeError(f"locust ended with {status}:\n{said[-3000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
