"""`fit` as it is typed: how flags are laid over a configuration, and which are refused."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import pytest

from tests.training.evaluation.stores import write_store
from training.__main__ import main
from training.checkpoint import CONFIG
from training.commands import fit as command
from training.configs import FitConfig, SelectorConfig, aligned
from training.recipes import RECIPES


def configured(*flags: str) -> FitConfig:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.config_from(parser.parse_args(["--store", "s", "--out", "r", *flags]))


@pytest.mark.parametrize(
    ("flags", "base"),
    [
        ([], aligned()),
        (["--selector", "shared"], aligned()),
        (["--recipe", "photos"], RECIPES["photos"]().fit),
    ],
)
def test_a_pre_code_weight_changes_nothing_else(flags: list[str], base: FitConfig) -> None:
    assert configured(*flags) == base
    selector = dataclasses.replace(base.selector or SelectorConfig(), pre_code_weight=2.5)
    got = configured(*flags, "--pre-code-weight", "2.5")
    assert got == dataclasses.replace(base, selector=selector)


def test_a_run_is_fitted_and_recorded_with_the_weight_that_was_given(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", items=60)
    sizes = ["--num-concepts", "8", "--k", "2", "--steps", "2", "--batch-size", "16"]
    where = ["--store", str(store.path), "--out", str(tmp_path / "run"), "--device", "cpu"]
    assert main(["fit", *where, *sizes, "--pre-code-weight", "0"]) == 0
    record = json.loads((tmp_path / "run" / CONFIG).read_text())
    assert record["fit"]["selector"]["pre_code_weight"] == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["3", "--selector", "pre_codes"], "`--pre-code-weight 3` was given, but"),
        (["3", "--method", "sparc"], "fit with `--selector shared`, or leave the flag out"),
        (["-1"], "`pre_code_weight` must be finite, at least 0, got -1.0"),
        (["inf"], "`pre_code_weight` must be finite, at least 0, got inf"),
        (["nan"], "`pre_code_weight` must be finite, at least 0, got nan"),
    ],
)
def test_a_weight_that_nothing_takes_is_refused(
    flags: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--store", str(tmp_path / "store"), "--out", str(tmp_path / "run")]
    assert main(["fit", *where, "--pre-code-weight", *flags]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
