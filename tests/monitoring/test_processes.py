"""Programs end with their block, and say why they did not start."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import httpx
import pytest

from koine.errors import RequestError, ServiceUnavailableError
from monitoring.tour import processes as tour
from monitoring.tour.__main__ import main
from monitoring.tour.processes import Processes
from monitoring.tour.receiver import Notice, Receiver

MILD = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {MILD}"


def _said(running: Processes) -> str:
    return running.log("it").read_text()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("code", [MILD, STUBBORN], ids=["mild", "stubborn"])
def test_a_program_ends_with_its_block_whatever_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    monkeypatch.setattr(tour, "STOP_WITHIN_S", 0.5)
    pids: list[int] = []

    def fail_in_the_block() -> None:
        with Processes(tmp_path) as running:
            running.start("it", [sys.executable, "-c", code], {}, lambda: "up" in _said(running))
            pids.append(running.pids["it"])
            assert alive(pids[0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_in_the_block()
    assert not alive(pids[0])


def test_a_program_that_ends_at_once_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such luck')"]
    with Processes(tmp_path) as running:
        with pytest.raises(ServiceUnavailableError, match="it did not start") as raised:
            running.start("it", command, {}, lambda: False)
        assert f"{tmp_path / 'it.log'} ends:\nno such luck" in str(raised.value)


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RequestError, match="apt-get install redis-server prometheus "):
        tour.check_programs()


def test_a_folder_of_something_else_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("years")
    monkeypatch.setattr("monitoring.tour.__main__.check_programs", lambda: None)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "captions.jsonl").write_text('{"image": "0.png"}')
    assert (
        main(["--out", str(tmp_path), "--corpus", str(tmp_path / "c"), "--drift", "outside"]) == 2
    )
    assert "holds something else" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "years"


def test_the_webhook_tells_each_change_once() -> None:
    told: list[Notice] = []
    labels = {"alertname": "A", "stream": "x"}
    with Receiver(told.append) as receiver:
        for status in ("firing", "firing", "resolved", "resolved", "firing"):
            alert = {"status": status, "labels": labels, "annotations": {"summary": "s"}}
            sent = httpx.post(f"http://127.0.0.1:{receiver.port}/ticket", json={"alerts": [alert]})
            assert sent.status_code == 200
    assert [one.status for one in told] == ["firing", "resolved", "firing"]
    assert receiver.rings("A")
    assert not receiver.rings("B")
    assert str(told[1]) == "RESOLVED A: s"
