"""The demo as a user runs it: its own process, a real server, real answers, then a clean end."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from koine.errors import RequestError
from tests.service.process import free_port
from training.demo.server import DemoServer

ROOT = Path(__file__).parent.parent.parent


def run_demo(out: Path, port: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "training", "demo", "--out", str(out), "--images", "400"]
    environment = os.environ | {"DEMO_EXIT": "1", "BENTOML_HOME": str(out / "bentoml")}
    return subprocess.run(
        [*command, "--port", str(port)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )


def test_demo_ends_with_codes_for_every_kind_of_item(tmp_path: Path) -> None:
    port = free_port()
    done = run_demo(tmp_path / "demo", port)
    assert done.returncode == 0, done.stdout + done.stderr
    for kind in ("an image", "a text", "activations", r"image \+ text"):
        answer = rf"^  {kind} .* 16 concepts, fvu 0\.\d\d   (#\d+|[a-z -]+) \d\.\d\d, "
        assert re.search(answer, done.stdout, re.M), kind
    assert re.search(r"^  a text .*   .*[a-z]{3,} \d\.\d\d", done.stdout, re.M), "no name"
    report = json.loads((tmp_path / "demo" / "run" / "report.json").read_text())
    assert report["schema"] == "koine.report/1"
    assert (tmp_path / "demo" / "artifact" / "manifest.json").is_file()
    with socket.socket() as probe:  # the server is gone: its port is free again
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


def test_demo_says_so_when_its_port_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = f"port {port} is taken: stop what uses it, or give another `--port`"
        with (
            pytest.raises(RequestError, match=message),
            DemoServer(tmp_path, port, tmp_path / "log"),
        ):
            pass
