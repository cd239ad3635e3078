"""`python -m monitoring.tour` at its smallest: a drift that rings and ends, told to a webhook."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from koine.artifact import Artifact
from monitoring.expressions import HERE, dashboards
from monitoring.tour.phases import ALERT
from tests.monitoring.corpora import write_corpus
from tests.monitoring.programs import needs
from tests.service.labelled import labelled


@pytest.mark.slow
def test_drift_rings_and_ends(tiny_artifact: Artifact, tmp_path: Path) -> None:
    needs("redis-server", "prometheus", "prometheus-alertmanager")
    artifact = labelled(tiny_artifact, tmp_path / "artifact").path
    corpus = write_corpus(tmp_path / "corpus", images=3000)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "monitoring.tour", "--artifact", artifact, "--corpus", corpus]
    command += ["--out", out, "--window", "8", "--bucket", "1", "--rate", "60", "--quiet", "5"]
    # random weights: their reference is what they see first
    command += ["--reference", "live", "--drift", "label=bright x8"]
    done = subprocess.run(
        [str(word) for word in command],
        cwd=HERE.parent,
        env=os.environ | {"DEMO_EXIT": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = re.findall(rf"webhook: (FIRING|RESOLVED) {ALERT}: Concepts of (\w+)", done.stdout)
    rang = {stream for status, stream in said if status == "FIRING"}
    assert rang
    assert {stream for status, stream in said if status == "RESOLVED"} == rang
    assert said[0][0] == "FIRING"
    assert f"{ALERT} rang and ended" in done.stdout
    for board, moment in itertools.product(dashboards(), ("ringing", "ended")):
        with Image.open(out / "dashboards" / moment / f"{board['uid']}.png") as picture:
            assert picture.width > 1000
            assert len(picture.convert("RGB").getcolors(10**6) or ()) > 50
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(out) not in left, "a program outlived the tour"
