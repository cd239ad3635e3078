"""The report of a real, short run: its keys, its figures against plain loops, its errors."""

from __future__ import annotations

import json
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from koine.errors import DataError, RequestError
from koine.types import Mode
from tests.training.evaluation.conftest import CONFIG
from tests.training.evaluation.naive import jaccard, mean, support
from tests.training.evaluation.stores import LABELS, WIDTHS, write_store
from training.__main__ import main
from training.activations import ActivationStore
from training.checkpoint import load_model
from training.configs import FitConfig
from training.evaluation import encoding
from training.evaluation.encoding import MODES
from training.evaluation.evaluate import evaluate
from training.evaluation.figures import figures, rows_of
from training.evaluation.lines import LINES
from training.evaluation.summary import console
from training.model import dense
from training.progress import progress
from training.trainer import fit

STREAMS = tuple(WIDTHS)
PAIRS = {"alpha|beta", "alpha|gamma", "beta|gamma"}
WAYS = {f"{a}->{b}" for a, b in product(STREAMS, STREAMS)}
CROSS = {f"{a}->{b}" for a, b in product(STREAMS, STREAMS) if a != b}
TRAINED = {"sparc", "dropout", "no_cross", "local", "local_no_cross", "hungarian"}


def sections(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Every dictionary's joint and independent figures."""
    return [each[mode] for each in (report, *report["controls"].values()) for mode in MODES]


def test_the_keys_are_those_of_the_contract(report: dict[str, Any]) -> None:
    assert report["schema"] == "koine.report/1"
    top = {"schema", "dictionary", "data", "joint", "independent", "raw", "controls", "seconds"}
    poc = {"date", "intervals", "names", "disagreement", "cost", "checklist"}
    assert set(report) == top | poc
    assert set(report["controls"]) == {"untrained", *TRAINED}
    for each in sections(report):
        assert set(each["fvu"]) == set(each["nmse"]) == WAYS
        for key in ("active_jaccard", "active_jaccard_shuffled", "active_jaccard_adjusted"):
            assert set(each[key]) == PAIRS | {"mean"}
        assert set(each["overlap"]) == set(each["overlap_shuffled"]) == CROSS | {"mean"}
        assert set(each["label_jaccard"]) == {"all", "alive"}
        assert set(each["latents"]) == {"dead", "mixed", "alive", "dense"}
        sizes = [each["latents"][key] for key in ("dead", "mixed", "alive")]
        assert sum(sizes) == CONFIG.num_concepts
        assert set(each["usage"]) == set(each["l0"]) == set(STREAMS)
        assert set(each["retrieval"]) == CROSS
        for found in each["retrieval"].values():
            assert set(found) == {"r1", "r5", "r10", "r10_se", "medr", "mrr"}
        assert set(each["probe"]) == set(each["label_purity"]) == set(STREAMS)
        for probe in each["probe"].values():
            assert set(probe) == {"labels", "k1", "k5", "k16"}
            assert set(probe["k1"]) == {"balanced_accuracy", "auc"}
        for judged in each["monosemanticity"].values():
            assert set(judged) == {"own", "own_chance", "other", "other_chance", "concepts"}
        assert 0 < each["firing_entropy"] <= 1
    assert set(report["raw"]["retrieval"]) == set(report["raw"]["fvu"]) == CROSS
    assert set(report["raw"]["probe"]) == set(STREAMS)


def test_the_written_report_is_strict_json_and_the_same(run: Path, report: dict[str, Any]) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    text = (run / "report.json").read_text()
    assert json.loads(text, parse_constant=refuse) == json.loads(json.dumps(report))


@pytest.mark.parametrize("mode", MODES)
def test_figures_equal_plain_loops_over_dense_codes(
    mode: Mode, run: Path, store: ActivationStore, report: dict[str, Any]
) -> None:
    model = load_model(run)
    batch = store.gather(store.split("test"))
    acts = {name: torch.from_numpy(x) for name, x in batch.acts.items()}
    codes = model.encode(acts, mode, torch.from_numpy(batch.present_NS))
    codes_NC = {name: dense(c, CONFIG.num_concepts).numpy() for name, c in codes.items()}
    assert not batch.present_NS.all()  # or missing streams would not be tried
    for (i, a), (j, b) in product(enumerate(STREAMS), enumerate(STREAMS)):
        both = batch.present_NS[:, i] & batch.present_NS[:, j]
        norms = np.linalg.norm(batch.acts[b], axis=1, keepdims=True)
        unit = batch.acts[b] / np.where(norms > 0, norms, 1)
        guess = model.decode(b, codes[a]).numpy()[both]
        centre = unit[batch.present_NS[:, j]].mean(0)
        fvu = ((guess - unit[both]) ** 2).sum() / ((unit[both] - centre) ** 2).sum()
        # float32 sums here, float64 there
        assert report[mode]["fvu"][f"{a}->{b}"] == pytest.approx(fvu, rel=1e-4)
        if i < j:
            items = np.flatnonzero(both)
            sets = [(support(codes_NC[a][n]), support(codes_NC[b][n])) for n in items]
            expected = mean([jaccard(*pair) for pair in sets])
            assert report[mode]["active_jaccard"][f"{a}|{b}"] == pytest.approx(expected)
    for i, a in enumerate(STREAMS):
        active = (codes_NC[a][batch.present_NS[:, i]] > 0).sum(1)
        assert report[mode]["l0"][a] == pytest.approx(active.mean())


@pytest.mark.parametrize("mode", MODES)
def test_latents_and_usage_are_counted_on_the_training_rows(
    mode: Mode, run: Path, store: ActivationStore, report: dict[str, Any]
) -> None:
    model = load_model(run)
    batch = store.gather(store.split("train"))
    acts = {name: torch.from_numpy(x) for name, x in batch.acts.items()}
    codes = model.encode(acts, mode, torch.from_numpy(batch.present_NS))
    fires = {n: (dense(c, CONFIG.num_concepts) > 0).sum(0).double() for n, c in codes.items()}
    streams = torch.stack([count > 0 for count in fires.values()]).sum(0)
    assert report[mode]["latents"]["dead"] == int((streams == 0).sum())
    assert report[mode]["latents"]["alive"] == int((streams == 3).sum())
    for name, count in fires.items():
        entropy = torch.special.entr(count / count.sum()).sum()
        assert report[mode]["usage"][name] == pytest.approx(float(entropy.exp()))


def test_batches_of_any_size_give_the_same_figures(
    run: Path, store: ActivationStore, report: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "batch_rows", lambda num_concepts: 7)
    with progress(None, "test") as bar:
        cut = figures(load_model(run), store, rows_of(store), bar)
    for mode in MODES:
        for key in ("fvu", "nmse", "active_jaccard", "active_jaccard_shuffled", "l0", "usage"):
            # matrix products of other shapes round differently
            assert cut[mode][key] == pytest.approx(report[mode][key], rel=1e-4)
        assert cut[mode]["latents"] == report[mode]["latents"]
        assert cut[mode]["label_jaccard"] == pytest.approx(report[mode]["label_jaccard"])


def test_retrieval_searches_among_a_bounded_sample(run: Path, store: ActivationStore) -> None:
    with progress(None, "test") as bar:
        few = figures(load_model(run), store, rows_of(store), bar, max_candidates=30)
    assert few["joint"]["retrieval_chance"]["alpha->beta"]["items"] == 30
    assert few["joint"]["retrieval_chance"]["alpha->beta"]["r1"] == pytest.approx(1 / 30)


def test_joint_figures_flatter_and_training_shows_in_the_independent_ones(
    report: dict[str, Any],
) -> None:
    untrained = report["controls"]["untrained"]
    for each in (report, untrained):
        assert (
            each["joint"]["active_jaccard"]["mean"] > each["independent"]["active_jaccard"]["mean"]
        )
    assert abs(untrained["independent"]["active_jaccard_adjusted"]["mean"]) < 0.05
    assert untrained["joint"]["active_jaccard_adjusted"]["mean"] > 0.5
    assert report["independent"]["active_jaccard_adjusted"]["mean"] > 0.2
    for name, probe in report["independent"]["probe"].items():
        free = untrained["independent"]["probe"][name]
        assert probe["k1"]["auc"] > free["k1"]["auc"]
        assert probe["k16"]["auc"] < report["raw"]["probe"][name]["auc"] + 0.05
    recovered, free = (
        np.mean(
            [stream["mean_jaccard"] for stream in each["independent"]["label_recovery"].values()]
        )
        for each in (report, untrained)
    )
    assert recovered > free


@pytest.mark.parametrize("name", ["local", "local_no_cross", "hungarian"])
def test_a_local_dictionary_encodes_alike_in_both_modes(name: str, report: dict[str, Any]) -> None:
    local = report["controls"][name]
    assert local["joint"] == local["independent"]


def test_controls_are_kept_until_the_configuration_changes(
    run: Path, report: dict[str, Any], tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    stale = copy / "controls" / "no_cross" / "config.json"
    stale.write_text(stale.read_text().replace('"steps": 60', '"steps": 59'))
    before = {name: written(copy, name) for name in TRAINED - {"hungarian"}}
    again = evaluate(copy, controls=True, device="cpu")
    after = {name: written(copy, name) for name in before}
    assert {name for name in before if before[name] != after[name]} == {"no_cross"}
    assert json.loads(stale.read_text())["fit"]["steps"] == 60
    assert again["controls"] == report["controls"]


def written(run: Path, control: str) -> int:
    """When a control's weights were written."""
    return (run / "controls" / control / "model.safetensors").stat().st_mtime_ns


def test_the_sparc_control_is_the_published_method(run: Path, report: dict[str, Any]) -> None:
    config = json.loads((run / "controls" / "sparc" / "config.json").read_text())["fit"]
    assert (config["method"], config["selection"], config["cross_weight"]) == ("sparc", "global", 1)
    assert (config["stream_dropout"], config["standardise"], config["auxk"]) == (0, False, 64)
    assert (config["steps"], config["lr"]) == (CONFIG.steps, CONFIG.lr)


def test_without_labels_the_label_figures_are_null(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", items=100, labelled=False)
    run = fit(store, FitConfig(num_concepts=16, k=3, steps=5, batch_size=16), tmp_path / "run")
    report = evaluate(run, device="cpu")
    assert set(report["controls"]) == {"untrained"}
    for each in sections(report):
        assert each["label_jaccard"] is None
        assert each["label_recovery"] is None
        assert each["label_purity"] is None
        assert each["probe"] is None
        assert each["monosemanticity"] is not None
    assert report["raw"]["probe"] is None
    assert "Label" not in console(report)


def test_the_console_prints_independent_beside_joint(report: dict[str, Any]) -> None:
    text = console(report)
    head, agreement = text.splitlines()[0], text.splitlines()[4]
    assert head.split() == ["independent", "joint", "untrained:", "independent", "joint"]
    adjusted = [
        each[mode]["active_jaccard"]["mean"]
        for each in (report, report["controls"]["untrained"])
        for mode in ("independent", "joint")
    ]
    assert [float(cell) for cell in agreement.split()[-4:]] == pytest.approx(adjusted, abs=5e-4)
    for title in ("This dictionary", "Untrained", "Local TopK", "No cross", "SPARC"):
        assert title in text


def test_every_line_of_the_summary_reads_every_dictionary(report: dict[str, Any]) -> None:
    for each in sections(report):
        assert all(line.shown(each) != "–" for line in LINES)


def test_label_recovery_names_the_labels_of_the_store(report: dict[str, Any]) -> None:
    for name in STREAMS:
        entries = report["independent"]["label_recovery"][name]["labels"]
        assert {entry["label"] for entry in entries} == set(LABELS)
        assert (
            "labels" not in report["controls"]["untrained"]["independent"]["label_recovery"][name]
        )


def test_an_unfinished_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RequestError, match=r"is no finished run \(`fit.json` is missing\)"):
        evaluate(tmp_path)
    assert main(["evaluate", str(tmp_path)]) == 2
    assert "python -m training fit" in capsys.readouterr().err


def test_a_store_that_went_away_or_changed_is_refused(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    record = json.loads((copy / "fit.json").read_text())
    (copy / "fit.json").write_text(json.dumps(record | {"store": str(tmp_path / "gone")}))
    with pytest.raises(DataError, match="is not there: put it back, or say with `--store`"):
        evaluate(copy)
    other = write_store(tmp_path / "other", items=50, seed=1)
    with pytest.raises(DataError, match="not the store that the run was fitted on"):
        evaluate(copy, store_path=other.path)
    assert evaluate(copy, store_path=Path(record["store"]))["data"]["held_out_rows"] == 120


def test_a_store_without_test_rows_is_refused(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", items=100, held_out=False)
    run = fit(store, FitConfig(num_concepts=16, k=3, steps=5, batch_size=16), tmp_path / "run")
    with pytest.raises(DataError, match="has no `test` rows"):
        evaluate(run)


def test_the_command_writes_both_files_where_it_is_told(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(run), "--out", str(tmp_path / "new"), "--device", "cpu"]) == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"report.json", "report.html"}
    assert "FVU, own stream" in capsys.readouterr().out
