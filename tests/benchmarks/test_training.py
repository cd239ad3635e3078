"""The training benchmarks: their results are kept and shown, and small ones run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from benchmarks.entry import Entry, entry
from benchmarks.report import Report
from benchmarks.training import step
from benchmarks.training import store as store_benchmark
from benchmarks.training.scaling import BASE, JOBS, SCANS, SELECTOR, paper_table, scan_table
from training.configs import FitConfig
from training.model import AlignedDictionary, ModelConfig


def made(name: str, ratio: float, target: float | None = 1.0) -> Entry:
    return entry(name, 2.0, 1.0, ratio=ratio, target=target, unit="s")


def test_mapped_against_resident_at_a_small_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_benchmark, "ROUNDS", 1)
    config = FitConfig(num_concepts=64, k=4, batch_size=32)
    rate, memory = store_benchmark.entries(tmp_path, 0.01, config)
    assert rate["ours"] > 0
    assert rate["baseline"] > 0
    assert 0.05 < memory["ours"] < 2, "GiB that a process with torch takes"
    assert list(tmp_path.iterdir()) == []


def test_the_step_is_collected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = step.Shape(num_concepts=64, k=4, batch=16, widths=(12, 8))
    by_pre_codes = dataclasses.replace(tiny, selector=False)
    peak = made("step_peak_memory", 3.0)
    monkeypatch.setattr(step, "CURVES", [tiny, by_pre_codes])
    monkeypatch.setattr(step, "TARGETS", {tiny: 0.0, by_pre_codes: 0.0})
    monkeypatch.setattr(step, "_memory_entry", lambda _: peak)
    page = tmp_path / "README.md"
    report = Report("training", ("step",), tmp_path)
    page.write_text("\n".join(report.markers))
    assert report.main(["step"]) == 0
    kept = {one["name"]: one for one in json.loads(report.results.read_text())}
    assert kept["step_peak_memory"] == peak
    for shape in (tiny, by_pre_codes):
        timed = kept[f"step_time_{shape.name}"]
        assert timed["ratio"] == pytest.approx(timed["baseline"] / timed["ours"])
        assert timed.keys() == peak.keys()
        assert f"| step_time_{shape.name} |" in page.read_text()


@pytest.mark.parametrize("selector", [True, False])
def test_curves_that_part_are_told(selector: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = step.Shape(num_concepts=64, k=4, batch=16, widths=(12, 8), selector=selector)
    step.check_curves(tiny)
    monkeypatch.setattr(step.Dense, "_update", lambda _: None)
    with pytest.raises(RuntimeError, match="of the dense formulation"):
        step.check_curves(tiny)


def test_the_peak_is_that_of_the_steps_alone() -> None:
    torch.zeros(100 << 18)  # 100 MiB, which are not there any more
    before = step._resident_from_now()
    torch.zeros(50 << 18)
    assert (step._status_kib("VmHWM") - before) / 1024 == pytest.approx(50, abs=10)  # MiB


def test_parameters_are_counted_as_the_model_has_them() -> None:
    widths = {f"s{number}": d for number, d in enumerate(BASE.widths)}
    shape = ModelConfig(num_concepts=BASE.num_concepts, k=BASE.k, selector=SELECTOR)
    model = AlignedDictionary(shape, widths)
    assert sum(p.numel() for p in model.parameters()) == BASE.parameters


def test_tables_have_a_line_a_shape_and_a_column_a_job() -> None:
    for name, shapes in SCANS.items():
        assert len(scan_table(name, [1.0] * len(shapes)).splitlines()) == 2 + len(shapes)
    lines = paper_table([1.0] * len(JOBS)).splitlines()
    assert {line.count("|") for line in lines} == {len(JOBS) + 2}
    assert "| samples | 85,000,000 | 1,000,000,000 |" in lines
