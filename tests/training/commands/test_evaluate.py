"""`evaluate` on the command line: thresholds, the verdict as the last line, and exit codes."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from koine.concepts import write_concepts
from tests.training.evaluation.stores import write_store
from tests.training.evaluation.test_names import concept
from tests.training.evaluation.test_pictures import image_bytes
from training.__main__ import main
from training.configs import FitConfig
from training.trainer import fit


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    store = write_store(folder / "store", items=100)
    config = FitConfig(num_concepts=16, k=3, steps=5, batch_size=16)
    return fit(store, config, folder / "run", device="cpu")


def off(*kept: str) -> list[str]:
    """Flags that leave every question out but some."""
    from training.evaluation.checklist import QUESTIONS

    return [f"--threshold={name}=off" for name in QUESTIONS if name not in kept]


def test_the_last_line_is_the_verdict_and_fails_only_if_asked(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["evaluate", str(run), "--out", str(tmp_path), "--device", "cpu", *off("items")]
    assert main([*given, "--threshold", "items=30", "--fail-on-no-go"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "GO (1 questions)"
    assert main([*given, "--threshold", "items=31"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "NO-GO (1 questions; failed: items)"
    with pytest.raises(SystemExit) as ended:
        main([*given, "--threshold", "items=31", "--fail-on-no-go"])
    assert ended.value.code == 1
    assert json.loads((tmp_path / "report.json").read_text())["checklist"]["verdict"] == "NO-GO"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--threshold", "agreement"], "must be NAME=N, such as agreement=.3"),
        (["--threshold", "depth=1"], "unknown threshold 'depth'"),
        (["--threshold", "items=1", "--threshold", "items=2"], "was given twice"),
        (["--names", "nowhere"], "holds no `concepts.jsonl`"),
        (["--artifact", "nowhere"], "is no artifact"),
        (["--price-per-core-hour", "-1"], "must be above 0"),
        (["--data", "nowhere"], "was made of activations"),
        (["--bench", "--no-images"], "`--no-images` belongs to the report"),
    ],
)
def test_what_does_not_fit_is_refused(
    flags: list[str], words: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(run), "--out", str(tmp_path), "--device", "cpu", *flags]) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_pictures_of_named_concepts_are_shown_unless_unwanted(run: Path, tmp_path: Path) -> None:
    names = tmp_path / "names"
    names.mkdir()
    write_concepts(names / "concepts.jsonl", [concept(number) for number in range(16)])  # made up
    with zipfile.ZipFile(names / "exemplars.zip", "w") as file:
        file.writestr("0.jpg", image_bytes())
    given = ["evaluate", str(run), "--out", str(tmp_path), "--names", str(names)]
    assert main([*given, "--device", "cpu"]) == 0
    html = (tmp_path / "report.html").read_text()
    assert "data:image/jpeg" in html
    assert "16 of the 16 concepts have a name; nobody has checked one yet." in html
    assert main([*given, "--device", "cpu", "--no-images"]) == 0
    assert "data:image/jpeg" not in (tmp_path / "report.html").read_text()
