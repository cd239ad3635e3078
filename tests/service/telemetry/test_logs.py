"""One handler for every logger of a process; in processes of their own, since it takes over."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.service.process import ROOT, environment

BENTOML_CONFIGURES = """
import asyncio, logging, sys, threading, warnings
from service.telemetry import logs
early = logging.getLogger("some.library")  # BentoML's configuration silences it
from bentoml._internal.log import configure_server_logging
configure_server_logging()
"""


def lines_of(code: str, tmp_path: Path, *, log_format: str = "json", status: int = 0) -> list[str]:
    """What a process prints that configures logging after BentoML and then does this."""
    code = f"{BENTOML_CONFIGURES}logs.configure('{log_format}', 'info')\n{code}"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(tmp_path), capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert run.returncode == status, run.stdout + run.stderr
    assert run.stderr == ""
    return run.stdout.splitlines()


def entries_of(code: str, tmp_path: Path, **more: Any) -> list[dict[str, Any]]:
    """The same as JSON."""
    return [json.loads(line) for line in lines_of(code, tmp_path, **more)]


def test_each_record_is_written_once(tmp_path: Path) -> None:
    code = """
for name in ("bentoml.serve", "uvicorn.error", "circus", "some.library", "service.core", ""):
    logging.getLogger(name).warning("from %s", name)
logging.getLogger("uvicorn.error").info("no")
logging.getLogger("service.core").info("yes")
logging.getLogger("service.core").debug("no")
"""
    told = [(entry["logger"], entry["message"]) for entry in entries_of(code, tmp_path)]
    names = ["bentoml.serve", "uvicorn.error", "circus", "some.library", "service.core"]
    expected = [(name, f"from {name}") for name in names]
    assert told == [*expected, ("root", "from "), ("service.core", "yes")]


def test_configuring_again_changes_format_and_level(tmp_path: Path) -> None:
    code = """
logs.configure("text", "error")
logging.getLogger("service.core").warning("no")
logging.getLogger("service.core").error("yes")
logging.getLogger("koine.access").info("access")
"""
    lines = lines_of(code, tmp_path)
    assert [line.rsplit(" ", 1)[1] for line in lines] == ["yes", "access"]


def test_a_file_handler_is_left_alone(tmp_path: Path) -> None:
    code = f"""
logger = logging.getLogger("kept")
logger.addHandler(logging.FileHandler({str(tmp_path / "kept.log")!r}))
logs.configure("json", "info")
logger.warning("both")
"""
    assert [entry["message"] for entry in entries_of(code, tmp_path)] == ["both"]
    assert (tmp_path / "kept.log").read_text() == "both\n"


def test_errors_that_nobody_catches_are_records(tmp_path: Path) -> None:
    code = """
class Bad:
    def __del__(self):
        raise KeyError("in del")

def fail():
    raise KeyError("in a thread")

warnings.warn("a warning")
bad = Bad()
del bad
thread = threading.Thread(target=fail, name="t1")
thread.start()
thread.join()
raise KeyError("at the end")
"""
    entries = entries_of(code, tmp_path, status=1)
    assert [entry["level"] for entry in entries] == ["WARNING", "ERROR", "ERROR", "CRITICAL"]
    assert "a warning" in entries[0]["message"]
    for entry, words in zip(entries[1:], ["in del", "in a thread", "at the end"], strict=True):
        assert entry["exception"].endswith(f"KeyError: '{words}'")


def test_a_record_that_cannot_be_formatted_is_pointed_out(tmp_path: Path) -> None:
    code = """
class Bad:
    def __str__(self):
        raise ValueError

from service.access import redact
logging.getLogger("service.core").info("%d items", "x")
redact.install()  # its filter reads the message, too
logging.getLogger("service.core").info("%s", Bad())
"""
    entries = entries_of(code, tmp_path)
    assert [entry["logger"] for entry in entries] == ["service.core"] * 2
    assert {entry["message"] for entry in entries} == {"a log record could not be formatted"}


def test_a_collector_that_is_down_is_told_once_a_minute(tmp_path: Path) -> None:
    code = """
for _ in range(20):
    logging.getLogger("opentelemetry.exporter.x").warning("transient")
    logging.getLogger("opentelemetry.exporter.x").error("failed")
"""
    assert [entry["message"] for entry in entries_of(code, tmp_path)] == ["transient", "failed"]


def test_lost_lines_are_told_when_lines_go_out_again(tmp_path: Path) -> None:
    code = """
import os
from service.telemetry import lines
out, full = os.dup(1), os.open("/dev/full", os.O_WRONLY)
os.dup2(full, 1)
for _ in range(3):
    logging.getLogger("service.core").info("lost")
os.dup2(out, 1)
logging.getLogger("service.core").info("back")
logging.getLogger("service.core").info("again")
"""
    told = [entry["message"] for entry in entries_of(code, tmp_path)]
    lost = "3 lines of the log could not be written and are lost"
    assert told == ["back", lost, "again"]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_stopping_says_why(tmp_path: Path, log_format: str) -> None:
    code = f"{BENTOML_CONFIGURES}logs.configure('{log_format}', 'info')\nlogs.stop('a\\nb')"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(tmp_path), capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 1
    if log_format == "text":
        assert (run.stdout, run.stderr) == ("", "a\nb\n")
    else:
        assert run.stderr == ""
        assert json.loads(run.stdout)["message"] == "a\nb"
