"""A real, small bench as entries: which figures meet, which comparison stands for a line."""

from __future__ import annotations

import copy
import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.entry import Entry
from benchmarks.report import Report
from benchmarks.training import quality
from tests.training.evaluation.stores import write_store
from training.configs import FitConfig
from training.evaluation.bench.bench import bench, pair_types
from training.evaluation.bench.plan import BenchConfig
from training.trainer import fit

CONFIG = FitConfig(num_concepts=24, k=3, steps=12, batch_size=64, lr=1e-2, validate_every=6)
ASKED = BenchConfig(seeds=(42, 7), lr_grid=(1e-2,))


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("quality")
    run = fit(write_store(folder / "store", items=300), CONFIG, folder / "run", device="cpu")
    found = bench(run, run / "bench", ASKED, device="cpu")
    # its streams are vectors; figures are by pair, whatever modalities a pair joins
    streams = {"alpha": "image", "beta": "image", "gamma": "text"}
    return found | {"streams": streams, "pair_types": pair_types(streams)}


@pytest.fixture
def read(tmp_path: Path) -> Callable[[dict[str, Any]], dict[str, Entry]]:
    def found(bench: dict[str, Any]) -> dict[str, Entry]:
        (tmp_path / "bench.json").write_text(json.dumps(bench))
        return {one["name"]: one for one in quality.entries(tmp_path / "bench.json")}

    return found


Read = Callable[[dict[str, Any]], dict[str, Entry]]


def seeds(bench: dict[str, Any], method: str, *path: str) -> list[float]:
    found = []
    for run in bench["methods"][method]["runs"]:
        value = run["figures"]["independent"]
        for key in path:
            value = value[key]
        found.append(value)
    return found


def altered(bench: dict[str, Any], method: str, change: Callable[[Any], None]) -> dict[str, Any]:
    other = copy.deepcopy(bench)
    for run in other["methods"][method]["runs"]:
        change(run["figures"]["independent"])
    return other


def met(one: Entry) -> bool:
    return one["target"] is not None and one["ratio"] >= one["target"]


def test_a_real_bench_gives_every_line(result: dict[str, Any], read: Read) -> None:
    found = read(result)
    kinds = ("image-image", "image-text")
    by_kind = ("agreement_adjusted", "fvu_cross", "r10")
    names = {f"{line}_{kind}" for line in by_kind for kind in kinds}
    names |= {"usage", "dead", "mixed", "fvu_self", "fvu_cross_below_1"}
    names |= {"probe16_balanced_accuracy"}
    assert set(found) == {f"quality_{name}" for name in names}
    for one in found.values():
        assert all(math.isfinite(one[key]) for key in ("ours", "baseline", "ratio", "spread"))
    json.dumps(list(found.values()), allow_nan=False)


def test_agreement_is_against_the_best_baseline(result: dict[str, Any], read: Read) -> None:
    pair = ("active_jaccard_adjusted", "alpha|beta")
    ours = seeds(result, "koine", *pair)
    best = max(quality.AGREEING, key=lambda name: np.mean(seeds(result, name, *pair)))
    theirs = seeds(result, best, *pair)
    one = read(result)["quality_agreement_adjusted_image-image"]
    assert one["unit"] == f"Jaccard ({best})"
    assert (one["ours"], one["baseline"]) == pytest.approx((np.mean(ours), np.mean(theirs)))
    assert one["ratio"] == pytest.approx(np.mean(ours) / np.mean(theirs))
    assert one["spread"] == pytest.approx(np.std(np.divide(ours, theirs), ddof=1))
    assert one["target"] == 3
    assert read(result)["quality_agreement_adjusted_image-text"]["target"] == 5


def test_usage_is_that_of_the_worst_stream(result: dict[str, Any], read: Read) -> None:
    def rare(figures: Any) -> None:
        figures["usage"]["beta"] = 0.4 * figures["usage"]["alpha"]

    sparc = np.mean(seeds(result, "sparc", "usage", "beta"))
    one = read(altered(result, "koine", rare))["quality_usage"]
    assert one["unit"] == "concepts (sparc, beta)"
    assert one["ratio"] == pytest.approx(
        0.4 * np.mean(seeds(result, "koine", "usage", "alpha")) / sparc
    )
    assert one["target"] == 0.5


@pytest.mark.parametrize("key", ["dead", "mixed"])
@pytest.mark.parametrize(("count", "good"), [(0, True), (1, False)])
def test_at_most_one_percent_of_all_concepts_are_unused(
    key: str, count: int, good: bool, result: dict[str, Any], read: Read
) -> None:
    one = read(altered(result, "koine", lambda figures: figures["latents"].update({key: count})))
    assert one[f"quality_{key}"]["ours"] == pytest.approx(count / CONFIG.num_concepts)
    assert met(one[f"quality_{key}"]) is good


def test_own_fvu_may_equal_that_of_sparc(result: dict[str, Any], read: Read) -> None:
    same = copy.deepcopy(result)
    same["methods"]["koine"]["runs"] = result["methods"]["sparc"]["runs"]
    assert met(read(same)["quality_fvu_self"])

    def worse(figures: Any) -> None:
        figures["fvu"]["alpha->alpha"] += 0.01

    assert not met(read(altered(same, "koine", worse))["quality_fvu_self"])


def test_one_pair_and_one_baseline_decide_on_cross_fvu(result: dict[str, Any], read: Read) -> None:
    def good(figures: Any) -> None:
        figures["fvu"] = dict.fromkeys(figures["fvu"], 0.01)

    def better(figures: Any) -> None:
        figures["fvu"]["gamma->alpha"] = 0.01

    def bad(figures: Any) -> None:
        figures["fvu"]["alpha->beta"] = 1.0

    best = altered(result, "koine", good)
    assert met(read(best)["quality_fvu_cross_image-text"])
    found = read(altered(best, "hungarian", better))
    assert not met(found["quality_fvu_cross_image-text"]), "equal is not below"
    assert found["quality_fvu_cross_image-text"]["unit"] == "FVU (hungarian, gamma->alpha)"
    assert met(found["quality_fvu_cross_image-image"])
    assert met(found["quality_fvu_cross_below_1"])
    found = read(altered(best, "koine", bad))
    assert not met(found["quality_fvu_cross_below_1"])
    assert found["quality_fvu_cross_below_1"]["unit"] == "FVU (alpha->beta)"


@pytest.mark.parametrize(("ours", "good"), [(0.451, True), (0.449, False)])
def test_retrieval_may_fall_by_a_standard_error(
    ours: float, good: bool, result: dict[str, Any], read: Read
) -> None:
    def of(r10: float) -> Callable[[Any], None]:
        def change(figures: Any) -> None:
            for each in figures["retrieval"].values():
                each |= {"r10": r10, "r10_se": 0.05}

        return change

    changed = result
    for name in result["methods"]:
        changed = altered(changed, name, of({"koine": ours, "local": 0.5}.get(name, 0.2)))
    one = read(changed)["quality_r10_image-text"]
    assert (one["ours"], one["baseline"]) == pytest.approx((ours, 0.5))
    assert one["unit"] == "R@10 (local)"
    assert met(one) is good


@pytest.mark.parametrize(("loss", "good"), [(0.0049, True), (0.0051, False)])
def test_probes_may_lose_half_a_point_to_local(
    loss: float, good: bool, result: dict[str, Any], read: Read
) -> None:
    changed = copy.deepcopy(result)
    runs = [changed["methods"][name]["runs"] for name in ("koine", "local")]
    for ours, local in zip(*runs, strict=True):
        for stream, probe in ours["figures"]["independent"]["probe"].items():
            theirs = local["figures"]["independent"]["probe"][stream]["k16"]
            probe["k16"]["balanced_accuracy"] = theirs["balanced_accuracy"] - loss
    assert met(read(changed)["quality_probe16_balanced_accuracy"]) is good


def test_joint_figures_are_not_read(result: dict[str, Any], read: Read) -> None:
    blind = copy.deepcopy(result)
    for each in blind["methods"].values():
        for run in each["runs"]:
            del run["figures"]["joint"]
    assert read(blind) == read(result)


def test_what_has_no_figure_is_said_and_left_out(
    result: dict[str, Any], read: Read, caplog: pytest.LogCaptureFixture
) -> None:
    plain = copy.deepcopy(result)
    for each in plain["methods"].values():
        for run in each["runs"]:
            run["figures"]["independent"]["probe"] = None
    with caplog.at_level(logging.WARNING):
        found = read(plain)
    assert set(read(result)) - set(found) == {"quality_probe16_balanced_accuracy"}
    assert "quality_probe16_balanced_accuracy: no figure" in caplog.text


def test_a_missing_bench_is_said_and_another_schema_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("KOINE_BENCH", str(tmp_path / "none.json"))
    with caplog.at_level(logging.WARNING):
        assert quality.entries() == []
    assert "none.json`: make it by `evaluate --bench`" in caplog.text
    (tmp_path / "none.json").write_text('{"schema": "koine.bench/0"}')
    with pytest.raises(ValueError, match=r"must be koine.bench/1, got koine.bench/0"):
        quality.entries()


def test_the_runner_shows_them(
    result: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bench.json").write_text(json.dumps(result))
    monkeypatch.setenv("KOINE_BENCH", str(tmp_path / "bench.json"))
    page = tmp_path / "README.md"
    report = Report("training", ("quality",), tmp_path)
    page.write_text("\n".join(report.markers))
    assert report.main(["quality"]) == 1, "twelve steps miss a target"
    assert "| quality_usage |" in page.read_text()


def test_ratios_are_finite() -> None:
    assert quality.quotient(1, 2) == 0.5
    assert quality.quotient(1, 0) == quality.quotient(1, 1e-9) == quality.quotient(1, -1) == 100
    assert quality.quotient(-1, -2) == quality.quotient(0, 0) == 0
