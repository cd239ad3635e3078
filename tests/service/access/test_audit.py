"""The audit of a lock: real pip-audit against a database on loopback, and against none."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.service.process import ROOT, free_port

LOCK = f"sound==1.0 --hash=sha256:{'0' * 64}\nbroken==2.0 --hash=sha256:{'1' * 64}\n"
VULN = {
    "id": "KOINE-TEST-1",
    "summary": "made up for this test",
    "affected": [
        {
            "package": {"name": "broken", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.1"}]}],
        }
    ],
}


class Database(ThreadingHTTPServer):
    """Answers as OSV does; `vulns` by package name, None hangs until the test ends."""

    def __init__(self, vulns: dict[str, list[Any]] | None) -> None:
        super().__init__(("127.0.0.1", 0), _Query)
        self.vulns, self.ended = vulns, threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1/query"


class _Query(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Database)
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.server.vulns is None:
            self.server.ended.wait(60)
            return
        vulns = self.server.vulns.get(asked["package"]["name"])
        body = json.dumps({"vulns": vulns} if vulns else {}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    with Database(request.param) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.ended.set()
        server.shutdown()
        thread.join()


def audit(folder: Path, url: str, *more: str, lock: str = LOCK) -> subprocess.CompletedProcess[str]:
    path = folder / "some.lock"
    path.write_text(lock)
    command = [sys.executable, str(ROOT / "requirements" / "audit.py"), str(path)]
    return subprocess.run(
        [*command, "--osv-url", url, *more], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("database", [{"broken": [VULN]}], indirect=True)
def test_a_known_vulnerability_fails(database: Database, tmp_path: Path) -> None:
    run = audit(tmp_path, database.url)
    assert run.returncode == 1
    assert "broken 2.0: KOINE-TEST-1 (mended in 2.1)" in run.stderr
    assert "sound" not in run.stderr


@pytest.mark.parametrize("database", [{}], indirect=True)
def test_a_sound_lock_passes(database: Database, tmp_path: Path) -> None:
    run = audit(tmp_path, database.url)
    assert (run.returncode, run.stderr) == (0, "")
    assert "2 packages without a known vulnerability" in run.stdout


def test_no_database_is_said_and_passes(tmp_path: Path) -> None:
    run = audit(tmp_path, f"http://127.0.0.1:{free_port()}/")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("not audited: ")
    assert "refused" in run.stdout


@pytest.mark.parametrize("database", [None], indirect=True)
def test_a_database_that_hangs_is_not_waited_for(database: Database, tmp_path: Path) -> None:
    run = audit(tmp_path, database.url, "--seconds", "3")
    assert (run.returncode, run.stderr) == (0, "")
    assert "no answer within 3 s" in run.stdout


@pytest.mark.parametrize("database", [{}], indirect=True)
def test_a_lock_that_cannot_be_read_fails(database: Database, tmp_path: Path) -> None:
    run = audit(tmp_path, database.url, lock="no lock at all !!\n")
    assert run.returncode == 1
    assert "cannot be audited" in run.stderr
