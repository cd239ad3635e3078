"""`export`: whole or not at all, the same bytes twice, and never past the parity gate."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from koine.artifact import Artifact
from koine.concepts import read_concepts
from koine.errors import DataError, ExportError, TrainingError
from koine.manifest import DECODERS, PROFILE
from koine.profile import read_profile
from tests.training.stores import atoms_store
from training.__main__ import main
from training.activations.store import ActivationStore
from training.checkpoint import load_model
from training.configs import ALIGNED, FitConfig
from training.export import artifact as artifact_module
from training.export import build
from training.export.build import CAPTION_SEED, export
from training.export.head import WEIGHTS, CodeRule, HeadWeights, Storage, write_heads
from training.trainer import fit

CONFIG = FitConfig(num_concepts=40, k=4, batch_size=32, steps=40, validate_every=20)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ActivationStore:
    return atoms_store(tmp_path_factory.mktemp("atoms") / "store", unpaired=True)


@pytest.fixture(scope="module", params=["aligned", "plain", "local", "sparc"])
def run(
    request: pytest.FixtureRequest, store: ActivationStore, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    change = {
        "aligned": ALIGNED,
        "plain": {},
        "local": {"selection": "local"},
        "sparc": {"method": "sparc", "standardise": False},
    }[request.param]
    config = dataclasses.replace(CONFIG, **change)
    return fit(store, config, tmp_path_factory.mktemp("runs") / request.param)


@pytest.fixture(scope="module")
def koine_run(store: ActivationStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(store, CONFIG, tmp_path_factory.mktemp("runs") / "one")


def test_a_run_of_imported_activations_exports(run: Path, tmp_path: Path) -> None:
    exported = export(run, tmp_path / "artifact", name="atoms", version="2.1")
    manifest = exported.artifact.manifest
    assert manifest.title == "atoms@2.1"
    assert (manifest.num_concepts, manifest.k) == (40, 4)
    assert [s.spec.name for s in manifest.streams] == ["image", "other", "words"]
    assert all(s.backbone is None for s in manifest.streams)
    sparc, local = run.name == "sparc", run.name == "local"
    assert manifest.method == ("sparc" if sparc else "koine")
    assert manifest.streams[0].normalisation == ("unit" if sparc else "unit_centred")
    assert manifest.selection.joint == ("own_topk" if local else "summed_topk")
    assert [p.what for p in exported.parity] == [
        f"{name} {mode}"
        for mode in ("independent", "joint")
        for name in ("image", "other", "words")
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artifact"]


def test_provenance_and_decoders_are_the_runs(
    koine_run: Path, store: ActivationStore, tmp_path: Path
) -> None:
    manifest = export(koine_run, tmp_path / "a").artifact.manifest
    assert manifest.name == "dictionary"
    assert manifest.training.seed == 42
    assert manifest.training.steps is not None
    assert manifest.training.store == f"sha256:{store.fingerprint}"
    assert {"python", "torch", "onnx", "onnxruntime"} <= manifest.training.versions.keys()
    decoders = load_file(tmp_path / "a" / DECODERS)
    stream = load_model(koine_run).of("other")
    for key, tensor in (("dictionary", stream.dictionary_CD), ("scale", stream.scale)):
        assert (decoders[f"other.{key}"] == tensor.detach().numpy()).all()
    assert len(decoders) == 15


def test_the_profile_counts_the_training_items_that_have_the_stream(
    koine_run: Path, store: ActivationStore, tmp_path: Path
) -> None:
    export(koine_run, tmp_path / "a")
    profile = read_profile(tmp_path / "a" / PROFILE).streams
    train, others = store.split("train"), np.concatenate([store.split("val"), store.split("test")])
    draws_N = np.random.default_rng(CAPTION_SEED).random(len(train))
    batch, held_out = store.gather(train, draws_N), store.present(others)
    model = load_model(koine_run)
    for column, name in enumerate(("image", "other", "words")):
        here_N = batch.present_NS[:, column]
        assert profile[name].items == here_N.sum()
        acts = {name: torch.from_numpy(batch.acts[name][here_N])}
        wanted = model.encode(acts, "independent")[name]
        fires = np.bincount(
            wanted.indices_NK[wanted.values_NK > 0].numpy(), minlength=model.config.num_concepts
        )
        assert profile[name].fires.fires_C.tolist() == fires.tolist()
        assert profile[name].fvu.items == held_out[:, column].sum() > 0
    assert profile["other"].items < len(train)
    concepts = read_concepts(tmp_path / "a" / "concepts.jsonl")
    assert concepts[0].rate["image"] == pytest.approx(profile["image"].rates_C[0])


def test_a_large_store_is_profiled_on_an_even_sample(
    koine_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "PROFILE_ROWS", 50)
    export(koine_run, tmp_path / "a")
    assert read_profile(tmp_path / "a" / PROFILE).streams["image"].items == 50


def test_exporting_twice_gives_the_same_files(koine_run: Path, tmp_path: Path) -> None:
    one = export(koine_run, tmp_path / "one").artifact.manifest
    two = export(koine_run, tmp_path / "two").artifact.manifest
    assert one.files == two.files
    assert one == two.model_copy(update={"created": one.created})


def test_who_may_read_a_file_here_may_read_each_of_an_artifact(
    koine_run: Path, tmp_path: Path
) -> None:
    """The service may run as another user than the export did."""
    (tmp_path / "plain").touch()
    wanted = (tmp_path / "plain").stat().st_mode
    artifact = export(koine_run, tmp_path / "artifact").artifact
    files = [path for path in artifact.path.rglob("*") if path.is_file()]
    assert {path.name: path.stat().st_mode for path in files if path.stat().st_mode != wanted} == {}


def test_an_artifact_is_replaced_and_nothing_else_is(koine_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "artifact"
    export(koine_run, out, version="1")
    (out / "stray").write_text("x")
    export(koine_run, out, version="2")
    assert Artifact.open(out).manifest.version == "2"
    (tmp_path / "empty").mkdir()
    export(koine_run, tmp_path / "empty")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(ExportError, match="holds files but no artifact; give another --out"):
        export(koine_run, mine)
    assert (mine / "thesis.txt").read_text() == "years of work"
    with pytest.raises(ExportError, match="is a file or a link"):
        export(koine_run, mine / "thesis.txt")


def test_what_a_killed_export_left_is_cleared(koine_run: Path, tmp_path: Path) -> None:
    stale = tmp_path / ".artifact.tmp"
    stale.mkdir()
    (stale / "half").write_text("x")
    export(koine_run, tmp_path / "artifact")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artifact"]


def test_an_artifact_that_a_killed_export_had_moved_aside_comes_back(
    koine_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, aside = tmp_path / "artifact", tmp_path / ".artifact.old.tmp"
    digest = export(koine_run, out).artifact.digest
    out.rename(aside)
    monkeypatch.setattr(artifact_module, "write_heads", perturbing("encoder_CD", 0.1))
    with pytest.raises(ExportError):
        export(koine_run, out)
    assert Artifact.open(out).digest == digest
    assert not aside.exists()


def perturbing(tensor: str, amount: float) -> Callable[..., None]:
    """`write_heads`, then one stream's tensor changed in the weights file."""

    def write(
        folder: Path,
        weights: Mapping[str, HeadWeights],
        k: int,
        *,
        shared: bool = True,
        rule: CodeRule | None,
        storage: Storage | None,
    ) -> None:
        changed = np.asarray(getattr(weights["other"], tensor) * np.float32(1 + amount))
        other = dataclasses.replace(weights["other"], **{tensor: changed})
        write_heads(
            folder, {**weights, "other": other}, k, shared=shared, rule=rule, storage=storage
        )

    return write


@pytest.mark.parametrize(
    ("tensor", "amount", "reason"),
    [
        ("encoder_CD", 0.01, "values by"),
        ("encoder_CD", 3e-4, "values by"),
        ("dictionary_CD", 0.01, "fvu by"),
        ("mean_D", 0.01, "fvu by"),
        ("shift_D", 0.01, "values by"),
        ("scale", 0.01, "values by"),
    ],
)
def test_the_gate_refuses_a_head_that_differs(
    koine_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tensor: str,
    amount: float,
    reason: str,
) -> None:
    export(koine_run, tmp_path / "artifact")
    before = Artifact.open(tmp_path / "artifact").digest
    monkeypatch.setattr(artifact_module, "write_heads", perturbing(tensor, amount))
    with pytest.raises(ExportError, match="codes of stream `other independent` differ") as caught:
        export(koine_run, tmp_path / "artifact")
    assert reason in str(caught.value)
    assert "Nothing was written" in str(caught.value)
    assert Artifact.open(tmp_path / "artifact").digest == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artifact"]


def test_the_gate_refuses_a_joint_graph_that_differs(
    koine_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(
        folder: Path,
        weights: Mapping[str, HeadWeights],
        k: int,
        *,
        shared: bool,
        rule: CodeRule | None,
        storage: Storage | None,
    ) -> None:
        write_heads(folder, weights, k, shared=not shared, rule=rule, storage=storage)

    monkeypatch.setattr(artifact_module, "write_heads", write)
    with pytest.raises(ExportError, match="joint` differ .* concepts active in only one"):
        export(koine_run, tmp_path / "artifact")
    assert list(tmp_path.iterdir()) == []


def test_heads_share_one_weights_file(koine_run: Path, tmp_path: Path) -> None:
    export(koine_run, tmp_path / "a")
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "a" / "heads").iterdir()}
    assert sorted(sizes) == ["image.onnx", "joint.onnx", "other.onnx", WEIGHTS, "words.onnx"]
    assert all(size < 20_000 for name, size in sizes.items() if name != WEIGHTS)


def test_metrics_come_from_the_report(koine_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(koine_run, tmp_path / "run"))
    figures = {
        "fvu": {"image->image": 0.25, "image->other": 0.5},
        "active_jaccard": {"image|other": 0.1, "mean": 0.125},
        "label_jaccard": None,
        "latents": {"dead": 3, "mixed": 0, "alive": 37},
        "retrieval": {"image->other": {"r1": 0.75, "medr": 1}},
    }
    (run / "report.json").write_text(json.dumps({"joint": figures, "independent": figures}))
    metrics = export(run, tmp_path / "a").artifact.manifest.metrics
    assert metrics["joint.fvu.image->image"] == 0.25
    assert metrics["independent.fvu.image->other"] == 0.5
    assert "joint.fvu.image->other" not in metrics
    assert metrics["independent.retrieval.image->other.r1"] == 0.75
    assert len(metrics) == 9
    (run / "report.json").write_text("{")
    with pytest.raises(ExportError, match=r"report\.json is damaged"):
        export(run, tmp_path / "a")


def test_what_is_no_finished_run_is_refused(koine_run: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match="holds no finished run .*finish `python -m training fit`"
    ):
        export(tmp_path, tmp_path / "a")
    run = Path(shutil.copytree(koine_run, tmp_path / "run"))
    (run / "model.safetensors").unlink()
    with pytest.raises(TrainingError, match=r"`model\.safetensors` is missing"):
        export(run, tmp_path / "a")
    (run / "fit.json").write_text("{")
    with pytest.raises(ExportError, match="is damaged"):
        export(run, tmp_path / "a")


def test_another_store_than_the_runs_is_refused(koine_run: Path, tmp_path: Path) -> None:
    atoms_store(tmp_path / "other", 100)
    with pytest.raises(ExportError, match="has changed since the run was fitted"):
        export(koine_run, tmp_path / "a", store=tmp_path / "other")
    with pytest.raises(DataError):
        export(koine_run, tmp_path / "a", store=tmp_path / "nowhere")


def test_the_command_prints_the_figures(
    koine_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["export", str(koine_run), "--out", str(tmp_path / "a"), "--name", "atoms"])
    out = capsys.readouterr().out
    assert code == 0, out
    assert "torch = ONNX Runtime: words joint, 80 items, apart by" in out
    assert "atoms@1, 9 files" in out
    assert main(["export", str(tmp_path), "--out", str(tmp_path / "b")]) == 1
    assert "The dictionary was not exported" in capsys.readouterr().err
