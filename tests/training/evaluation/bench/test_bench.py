"""A real, small bench: its layout, its figures, what it uses again, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from koine.errors import DataError, RequestError
from tests.training.evaluation.stores import WIDTHS, write_store
from training.__main__ import main
from training.activations import ActivationStore
from training.checkpoint import CONFIG as RUN_CONFIG
from training.configs import FitConfig, SelectorConfig, aligned
from training.evaluation.bench import trials
from training.evaluation.bench.bench import bench, pair_types
from training.evaluation.bench.lines import directions, lines_of, spread
from training.evaluation.bench.markdown import markdown
from training.evaluation.bench.plan import METHODS, SWEPT, BenchConfig, reweighted
from training.evaluation.bench.plot import png
from training.trainer import fit

CONFIG = aligned(
    selector=SelectorConfig(pre_code_weight=6.0),
    num_concepts=24,
    k=3,
    steps=24,
    batch_size=64,
    lr=1e-3,
    validate_every=6,
)
ASKED = BenchConfig(
    seeds=(42, 7),
    lr_grid=(1e-3, 1e-2),
    sweep_k=(3, 6),
    sweep_num_concepts=(12, 24),
    sweep_pre_code_weight=(12.0, 3.0),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    return fit(write_store(folder / "store", items=300), CONFIG, folder / "run", device="cpu")


@pytest.fixture(scope="module")
def result(run: Path) -> dict[str, Any]:
    return bench(run, run / "bench", ASKED, device="cpu")


def test_the_result_is_strict_json_with_every_method_seed_and_size(
    result: dict[str, Any],
) -> None:
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["schema"] == "koine.bench/1"
    assert list(result["methods"]) == [*METHODS, "untrained"]
    for name, each in result["methods"].items():
        assert [run["seed"] for run in each["runs"]] == [42, 7]
        assert set(each["stability"]) == {*WIDTHS, "mean"}
        assert (each["lr"] is None) == (name == "untrained")
    sizes = [(entry["method"], entry["num_concepts"], entry["k"]) for entry in result["sweep"]]
    expected = [(m, c, k) for m in SWEPT for c, k in ((24, 3), (24, 6), (12, 3))]
    assert sorted(sizes) == sorted(expected)  # the run's own size once, though it was asked for


def test_the_summary_is_mean_and_sample_deviation_over_seeds(result: dict[str, Any]) -> None:
    for each in result["methods"].values():
        for mode in ("independent", "joint"):
            runs = [run["figures"][mode] for run in each["runs"]]
            values = [np.mean([f["fvu"][f"{s}->{s}"] for s in WIDTHS]) for f in runs]
            got = each["summary"][mode]["fvu_own"]
            assert got["mean"] == pytest.approx(np.mean(values))
            assert got["spread"] == pytest.approx(np.std(values, ddof=1))
    assert spread([1.0, None]) == {"mean": 1.0, "spread": None}
    assert spread([None]) == {"mean": None, "spread": None}


def test_each_method_takes_the_learning_rate_best_on_validation(result: dict[str, Any]) -> None:
    for name in METHODS:
        lr = result["methods"][name]["lr"]
        assert set(lr["tried"]) == {"0.001", "0.01"}
        assert f"{lr['chosen']:g}" == min(lr["tried"], key=lr["tried"].__getitem__)
        assert result["methods"][name]["config"]["lr"] == lr["chosen"]
    # 24 steps at 1e-3 have hardly moved
    assert result["methods"]["koine"]["lr"]["chosen"] == 1e-2


def test_training_matching_and_seeds_show(result: dict[str, Any]) -> None:
    def of(name: str, key: str) -> float:
        return result["methods"][name]["summary"]["independent"][key]["mean"]

    adjusted = "agreement_adjusted_vector-vector"
    assert of("koine", "fvu_own") < of("untrained", "fvu_own") - 0.1
    assert of("hungarian", adjusted) > of("local_no_cross", adjusted) + 0.05
    assert abs(of("untrained", adjusted)) < 0.1
    stable = {name: each["stability"]["mean"] for name, each in result["methods"].items()}
    assert stable["koine"] != stable["untrained"]


def test_a_second_call_fits_and_measures_nothing(
    run: Path, result: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("done already")

    for name in ("dictionary", "measure"):
        monkeypatch.setattr(trials, name, never)
    monkeypatch.setattr("training.evaluation.bench.bench.raw_figures", never)
    again = bench(run, run / "bench", ASKED, device="cpu")
    assert again | {"seconds": 0} == result | {"seconds": 0}


def test_an_interrupted_bench_goes_on_and_a_new_seed_adds_to_it(
    run: Path, result: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measured: list[str] = []
    kept = trials.measure

    def broken(shared: Any, model: Any, what: str) -> Any:
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(what)
        return kept(shared, model, what)

    asked = BenchConfig(seeds=(42,), lr_grid=(1e-2,))
    monkeypatch.setattr(trials, "measure", broken)
    with pytest.raises(KeyboardInterrupt):
        bench(run, tmp_path, asked, device="cpu")
    monkeypatch.setattr(trials, "measure", lambda *a: (measured.append(a[2]), kept(*a))[1])
    whole = bench(run, tmp_path, asked, device="cpu")
    assert len(measured) == len(set(measured)) == len(METHODS)
    for name in METHODS:
        if result["methods"][name]["lr"]["chosen"] == 1e-2:
            assert whole["methods"][name]["runs"] == result["methods"][name]["runs"][:1]
    assert whole["methods"]["koine"]["stability"]["mean"] is None


def test_the_frontier_is_the_own_method_by_weight(run: Path, result: dict[str, Any]) -> None:
    own = result["methods"]["koine"]
    lr = own["lr"]["chosen"]
    points = result["frontier"]
    assert [point["pre_code_weight"] for point in points] == [3, 6, 12]
    assert all((point["lr"], point["seeds"]) == (lr, [42]) for point in points)
    mean = own["runs"][0]["figures"]["independent"]["latents"]["dead"]
    assert points[1]["summary"]["independent"]["dead"] == {"mean": mean, "spread": None}
    assert len({point["summary"]["independent"]["fvu_own"]["mean"] for point in points}) == 3
    assert not (run / "bench/sweep/w6").exists()
    for weight in (3.0, 12.0):
        place = run / f"bench/sweep/w{weight:g}/koine/lr{lr:g}/seed42"
        fitted = FitConfig.from_json(json.loads((place / RUN_CONFIG).read_text())["fit"])
        assert fitted == reweighted(dataclasses.replace(CONFIG, lr=lr), weight)


def test_the_page_and_the_plot_show_the_frontier(result: dict[str, Any]) -> None:
    text = markdown(result)
    dial = text.split("## The dial between agreement and reconstruction")[1].split("\n## ")[0]
    assert f"seed 42, learning rate {result['methods']['koine']['lr']['chosen']:g}." in dial
    head, _, *rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in dial.splitlines()
        if line.startswith("|")
    ]
    assert [row[0] for row in rows] == ["3", "6 (this run)", "12"]
    for row, point in zip(rows, result["frontier"], strict=True):
        figures = point["summary"]["independent"]
        shown = dict(zip(head, row, strict=True))
        assert shown["FVU, own stream ↓"] == f"{figures['fvu_own']['mean']:.3f}"
        recall = figures["r10_vector-vector"]["mean"]
        assert shown["R@10, vector-vector ↑"] == f"{recall:.3f}"
        assert shown["Latents mixed ↓"] == f"{figures['mixed']['mean']:.0f}"
    plain = result | {"frontier": []}
    assert "## The dial" not in markdown(plain)
    assert png(plain) != png(result)


def test_the_page_holds_both_encodings_matrices_and_sweep(result: dict[str, Any]) -> None:
    text = markdown(result)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    lines = lines_of(
        result["pair_types"], result["methods"]["koine"]["runs"][0]["figures"]["independent"]
    )
    for line in lines:
        assert any(row.startswith(f"| {line.title} ") and "independent" in row for row in rows)
    assert sum("| joint " in row for row in rows) == len(lines)
    assert text.count("**") >= 2 * len(result["methods"])
    assert "## Sweep" in text
    assert "None" not in text
    assert "nan" not in text
    own = result["methods"]["koine"]["summary"]["independent"]["fvu_own"]
    assert f"{own['mean']:.3f} ± {own['spread']:.3f}" in text
    assert "edge of the grid" in text


def test_without_sweep_and_with_one_seed_the_page_has_no_spread(result: dict[str, Any]) -> None:
    plain = json.loads(json.dumps(result)) | {"sweep": [], "frontier": []}
    for each in plain["methods"].values():
        for figures in each["summary"].values():
            for figure in figures.values():
                figure["spread"] = None
    assert "±" not in markdown(plain).split("\n|")[1]
    assert "## Sweep" not in markdown(plain)
    assert png(plain).startswith(b"\x89PNG")


def test_pairs_are_sorted_by_the_modalities_they_join() -> None:
    streams = {"a": "image", "b": "text", "c": "image"}
    assert pair_types(streams) == {"image-text": ["a|b", "b|c"], "image-image": ["a|c"]}
    assert directions(["a|b"]) == ["a->b", "b->a"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--bench", "--seeds"], "`--seeds` needs one seed or more"),
        (["--bench", "--seeds", "1", "1"], "each once"),
        (["--bench", "--lr-grid", "0"], "positive learning rate"),
        (["--bench", "--sweep-k", "25"], "k 25 of 24 concepts"),
        (["--bench", "--sweep-num-concepts", "2"], "k 3 of 2 concepts"),
        (["--bench", "--sweep-pre-code-weight", "3", "-1"], "0 or more; got [3.0, -1.0]"),
        (["--bench", "--sweep-pre-code-weight", "inf"], "needs finite weights"),
        (["--bench", "--controls"], "a bench has the controls"),
        (["--sweep-pre-code-weight", "3"], "`--sweep-pre-code-weight` belongs to `--bench`"),
        (["--seeds", "1"], "`--seeds` belongs to `--bench`"),
    ],
)
def test_wrong_flags_are_refused_before_anything_is_fitted(
    flags: list[str], words: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(run), "--out", str(tmp_path / "out"), *flags]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_sweep_over_weights_is_refused_where_no_selector_weighs_them(
    run: Path, tmp_path: Path
) -> None:
    plain = dataclasses.replace(CONFIG, selector=None, steps=2)
    store = ActivationStore.open(run.parent / "store")
    other = fit(store, plain, tmp_path / "run", device="cpu")
    asked = BenchConfig(seeds=(1,), lr_grid=(1e-3,), sweep_pre_code_weight=(3.0,))
    with pytest.raises(RequestError, match="fitted with `--selector shared`"):
        bench(other, tmp_path / "out", asked, device="cpu")
    assert not (tmp_path / "out").exists()


def test_a_run_that_is_not_there_and_stores_that_do_not_serve_are_refused(tmp_path: Path) -> None:
    one = BenchConfig(seeds=(1,), lr_grid=(1e-3,))
    with pytest.raises(RequestError, match="is no finished run"):
        bench(tmp_path / "none", tmp_path / "out", one)
    store = write_store(tmp_path / "store", items=60, held_out=False)
    small = dataclasses.replace(CONFIG, num_concepts=8, k=2, steps=2, batch_size=16)
    run = fit(store, small, tmp_path / "run", device="cpu")
    with pytest.raises(DataError, match="has no `test` rows"):
        bench(run, tmp_path / "out", one)
    other = write_store(tmp_path / "other", items=50, seed=1)
    with pytest.raises(DataError, match="not the store that the run was fitted on"):
        bench(run, tmp_path / "out", one, store_path=other.path)


@pytest.mark.parametrize("streams", [1, 2])
def test_the_command_writes_its_files_without_labels_and_with_few_streams(
    streams: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = write_store(tmp_path / "store", items=80, labelled=False, streams=streams)
    small = dataclasses.replace(CONFIG, num_concepts=8, k=2, steps=2, batch_size=16)
    run = fit(store, small, tmp_path / "run", device="cpu")
    flags = ["--bench", "--seeds", "3", "--lr-grid", "1e-3", "--device", "cpu"]
    assert main(["evaluate", str(run), *flags]) == 0
    out = run / "bench"
    assert {"bench.json", "bench.md", "bench.png"} <= {path.name for path in out.iterdir()}
    text = (out / "bench.md").read_text()
    assert "has no labels: no probes" in " ".join(text.split())
    assert "Probe" not in text
    assert text in capsys.readouterr().out
    with Image.open(out / "bench.png") as image:
        assert image.width > 800


@pytest.mark.parametrize("given", [0, -1, 3])
def test_sweeps_take_some_of_the_seeds(given: int) -> None:
    with pytest.raises(RequestError, match=f"from 1 to the 2 seeds .* got {given}"):
        BenchConfig(seeds=(1, 2), sweep_seeds=given)
