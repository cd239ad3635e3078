"""`kill -9` of a service under load: nothing acknowledged is lost, and every log verifies.

    python -m benchmarks.monitoring.kills --kills 50 --each 10 --seed 1

Clients send texts that occur once. A process that writes the audit log is killed at a random
moment, its supervisor starts another one meanwhile; now and then the whole service is killed and
started anew on the same log. After each kill every text that was answered with 200 must be in the
log by its hash, and the log must verify. Neither power cuts nor the disk's own faults are tried.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import math
import random
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.serving.artifacts import demo
from benchmarks.serving.server import Server, serving
from koine.audit.events import content_digest
from koine.audit.segments import SUFFIX, writers_of
from koine.audit.signing import SigningKey, write_new_key
from koine.audit.verify import verify_log

WORKERS, CLIENTS, ITEMS = 3, 4, 4
WAIT_S = 120.0
MOST_DELAY_S = 0.5
PAUSE_S = 0.02
"""Between the requests of a client: the generator must leave the service a core."""
_CONTENT = re.compile(rb'"content":\{"text":"([0-9a-f]{64})"\}')
_RECOVERED = b'"action":"recovered"'


class Survived(NamedTuple):
    """What the kills did."""

    workers_killed: int
    services_killed: int
    acknowledged: int
    """Items answered with 200."""
    lost: int
    """Of them, those that are not in the log."""
    entries: int
    recovered: int
    """Starts that cut an unfinished write."""
    verified: int
    """Checks of the whole log."""
    faults: list[str]


def survive(
    artifact: Path, folder: Path, *, kills: int, each: int, seed: int, seconds: float = math.inf
) -> Survived:
    """Kills writing processes at random moments, and the service whole after `each` of them.

    It ends early, with what it did, where `seconds` are over.
    """
    root, key = folder / "log", write_new_key(folder / "key")
    root.mkdir()
    settings = {"KOINE_AUDIT": str(root), "KOINE_AUDIT_KEY": str(folder / "key")}
    rng, watch = random.Random(seed), _Watch(root, key)
    end, workers, services = time.monotonic() + seconds, 0, 0
    while workers + services < kills and time.monotonic() < end:
        with (
            serving(artifact, workers=WORKERS, core=None, settings=settings) as server,
            _clients(server.port, watch.told, f"{seed} {services}"),
        ):
            for _ in range(min(each, kills - workers - services)):
                _when_acknowledged(watch.told, rng)
                rng.choice(_writing(server, root)).kill()
                workers += 1
                watch.check()
                if time.monotonic() >= end:
                    break
            if workers + services < kills:
                _when_acknowledged(watch.told, rng)
                _kill_all(server)
                services += 1
        watch.check()
    return watch.survived(workers, services)


class _Watch:
    """What was acknowledged, and what of it the log holds."""

    def __init__(self, root: Path, key: SigningKey) -> None:
        self._root, self._key = root, key
        self.told: set[str] = set()
        self._lost: set[str] = set()
        self._kept: set[str] = set()
        self._read: dict[Path, int] = {}
        self._faults: list[str] = []
        self._recovered = self._entries = self._verified = 0

    def check(self) -> None:
        """Reads what the log grew by, and verifies it whole."""
        told = self.told.copy()
        for folder in writers_of(self._root):
            for path in folder.glob(f"*{SUFFIX}"):
                with path.open("rb") as file:
                    file.seek(self._read.get(path, 0))
                    content = file.read()
                content = content[: content.rfind(b"\n") + 1]
                self._read[path] = self._read.get(path, 0) + len(content)
                self._kept |= {digest.decode() for digest in _CONTENT.findall(content)}
                self._recovered += content.count(_RECOVERED)
        self._lost |= told - self._kept
        checked = verify_log(self._root, self._key.public)
        self._entries = sum(one.size for one in checked)
        self._faults += [str(fault) for one in checked for fault in one.faults]
        self._verified += 1

    def survived(self, workers: int, services: int) -> Survived:
        return Survived(
            workers, services, len(self.told), len(self._lost), self._entries, self._recovered,
            self._verified, self._faults,
        )  # fmt: skip


@contextmanager
def _clients(port: int, told: set[str], name: str) -> Iterator[None]:
    """Sends until the end, whether anybody answers or not."""
    ended = threading.Event()
    threads = [
        threading.Thread(target=_send, args=(port, told, f"{name} {n}", ended))
        for n in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def _send(port: int, told: set[str], name: str, ended: threading.Event) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for number in itertools.count():
        if ended.wait(PAUSE_S):
            return
        texts = [f"{name} {number} {n}" for n in range(ITEMS)]
        body = json.dumps({"inputs": [{"text": text} for text in texts]})
        try:
            connection.request("POST", "/v1/encode", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            if answer.status == 200 and len(json.loads(content)["results"]) == ITEMS:
                told |= {content_digest(text.encode()) for text in texts}
        except (OSError, http.client.HTTPException):
            pass  # it was killed; the next request opens a connection anew
        finally:
            connection.close()


def _when_acknowledged(told: set[str], rng: random.Random) -> None:
    """Returns at a random moment of a service that answers."""
    count, deadline = len(told), time.monotonic() + WAIT_S
    while len(told) == count:
        if time.monotonic() > deadline:
            sys.exit(f"the service answered nothing for {WAIT_S:g} s")
        time.sleep(0.01)
    time.sleep(rng.uniform(0, MOST_DELAY_S))


def _writing(server: Server, root: Path) -> list[psutil.Process]:
    """Processes that have a segment open, so that a start that is under way is none."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        found: list[psutil.Process] = []
        for worker in server.workers:
            try:
                opened = [Path(file.path) for file in worker.open_files()]
            except psutil.Error:  # ended meanwhile
                continue
            if any(root in path.parents and path.suffix == SUFFIX for path in opened):
                found.append(worker)
        if len(found) > 1:  # the last one must answer while others start
            return found
        time.sleep(0.1)
    sys.exit(f"the workers did not come back:\n{server.log}")


def _kill_all(server: Server) -> None:
    parent = psutil.Process(server.process.pid)
    family = [parent, *parent.children(recursive=True)]
    for process in family:
        process.kill()
    psutil.wait_procs(family[1:], timeout=10)
    server.process.wait(10)


def main() -> None:
    """Prints what was survived; exit 1 where something was lost."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=50, help="default: 50")
    parser.add_argument("--each", type=int, default=10, help="then the whole service; default: 10")
    parser.add_argument("--seconds", type=float, default=math.inf, help="ends early after these")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--artifact", type=Path, help="default: that of `make demo`")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = survive(
            asked.artifact or demo(), Path(folder),
            kills=asked.kills, each=asked.each, seed=asked.seed, seconds=asked.seconds,
        )  # fmt: skip
    print(json.dumps(found._asdict()))
    sys.exit(1 if found.lost or found.faults or not found.acknowledged else 0)


if __name__ == "__main__":
    main()
