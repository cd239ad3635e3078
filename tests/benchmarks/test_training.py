"""The training benchmarks: their results are kept and shown, and small ones run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from benchmarks.training import __main__ as runner
from benchmarks.training import step
from benchmarks.training import store as store_benchmark
from benchmarks.training.entry import Entry, entry
from benchmarks.training.scaling import BASE, JOBS, SCANS, SELECTOR, paper_table, scan_table
from training.configs import FitConfig
from training.model import AlignedDictionary, ModelConfig


def made(name: str, ratio: float, target: float | None = 1.0) -> Entry:
    return entry(name, 2.0, 1.0, ratio=ratio, target=target, unit="s")


def test_new_entries_replace_old_ones_of_their_name() -> None:
    kept = runner.merged([made("b", 1.0), made("a", 1.0)], [made("b", 3.0)])
    assert [(one["name"], one["ratio"]) for one in kept] == [("a", 1.0), ("b", 3.0)]


def test_the_table_stands_between_the_markers_and_says_what_is_missed() -> None:
    page = f"head\n{runner.BEGIN}\nold\n{runner.END}\ntail\n"
    new = runner.written(page, [made("good", 1.0), made("bad", 0.9), made("free", 0.1, None)])
    assert new.startswith("head\n")
    assert new.endswith("tail\n")
    assert "old" not in new
    lines = {line.split(" | ")[0]: line for line in new.splitlines()}
    assert "1 met" in lines["| good"]
    assert "1 **missed**" in lines["| bad"]
    assert "met" not in lines["| free"]
    assert runner.written(new, []) != new
    with pytest.raises(ValueError, match="lacks the markers"):
        runner.written("head", [])


def test_the_page_has_the_markers() -> None:
    runner.written(runner.README.read_text(), [])


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
    page.write_text(f"{runner.BEGIN}\n{runner.END}\n")
    monkeypatch.setattr(runner, "README", page)
    monkeypatch.setattr(runner, "RESULTS", tmp_path / "results" / "training.json")
    assert runner.main(["step"]) == 0
    kept = {one["name"]: one for one in json.loads(runner.RESULTS.read_text())}
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
