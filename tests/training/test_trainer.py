"""Fitting: it learns, it resumes to the bit after a kill, and it stops with a reason."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from koine.errors import TrainingError
from tests.training.stores import atoms_store
from training.activations.store import ActivationStore
from training.checkpoint import held, load_model, load_tensors
from training.configs import ALIGNED, SPARC_AS_PUBLISHED, FitConfig, Selection, SelectorConfig
from training.initial import initial_model
from training.kernels import selection as kernels
from training.trainer import fit
from training.validation import validate

CONFIG = FitConfig(
    num_concepts=48, k=4, batch_size=32, steps=60, lr=3e-3, validate_every=20, checkpoint_every=10
)
ALIGNS = dataclasses.replace(CONFIG, **ALIGNED)
SPARC = dataclasses.replace(CONFIG, **(SPARC_AS_PUBLISHED | {"auxk": 4, "lr": 3e-3}))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ActivationStore:
    return atoms_store(tmp_path_factory.mktemp("atoms") / "store")


def fvu(store: ActivationStore, run: Path) -> dict[str, float]:
    return validate(load_model(run), store, store.split("test"), torch.device("cpu"))


@pytest.mark.parametrize("config", [ALIGNS, CONFIG, SPARC], ids=["aligned", "plain", "sparc"])
def test_fitting_beats_the_untrained_dictionary(
    store: ActivationStore, tmp_path: Path, config: FitConfig
) -> None:
    config = dataclasses.replace(config, steps=400)
    run = fit(store, config, tmp_path / "run")
    untrained = initial_model(store, config)
    before = validate(untrained, store, store.split("test"), torch.device("cpu"))
    after = fvu(store, run)
    assert after["fvu_self_independent"] < 0.6 * before["fvu_self_independent"]
    assert after["fvu_cross_joint"] < 0.6 * before["fvu_cross_joint"]


@pytest.mark.parametrize("selection", ["global", "local"])
@pytest.mark.parametrize("config", [CONFIG, SPARC], ids=["koine", "sparc"])
def test_rounded_scores_choose_candidates_for_koine_only(
    store: ActivationStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: FitConfig,
    selection: Selection,
) -> None:
    decided: list[int] = []
    best_of = kernels._best_of

    def recorded(*given: Any) -> Tensor:
        decided.append(1)
        return best_of(*given)

    monkeypatch.setattr(kernels, "_worth_rounding", lambda *_: True)
    monkeypatch.setattr(kernels, "_best_of", recorded)
    config = dataclasses.replace(config, selection=selection, steps=2)
    fit(store, config, tmp_path / "run", device="cpu")
    assert bool(decided) == (config.method == "koine")


@pytest.mark.slow
def test_rows_that_lack_a_stream_train_too(tmp_path: Path) -> None:
    store = atoms_store(tmp_path / "store", unpaired=True)
    assert (store.counts("other") == 0).any()
    for config in (ALIGNS, CONFIG):
        run = tmp_path / str(config.selector is None)
        fit(store, dataclasses.replace(config, steps=300), run)
        assert fvu(store, run)["fvu_self_joint"] < 0.5


def test_decoder_rows_keep_unit_norm_after_the_step(store: ActivationStore, tmp_path: Path) -> None:
    run = fit(store, dataclasses.replace(CONFIG, lr=3e-2, keep="last"), tmp_path / "run")
    model = load_model(run)
    for name in model.streams:
        norms_C = model.of(name).dictionary_CD.norm(dim=1)
        # float32 rounding of a norm over at most 20 terms
        torch.testing.assert_close(norms_C, torch.ones_like(norms_C), rtol=0, atol=1e-6)


def test_streams_are_centred_and_scaled_on_training_rows(store: ActivationStore) -> None:
    model = initial_model(store, CONFIG)
    batch = store.gather(store.split("train"))
    for name, acts_ND in batch.acts.items():
        z_ND = model.of(name).normalise(torch.from_numpy(acts_ND))
        assert z_ND.mean(0).abs().max() < 1e-5
        assert z_ND.square().sum(1).mean().item() == pytest.approx(1.0, rel=1e-4)
    published = initial_model(store, SPARC)
    assert published.of("image").scale == 1
    assert not published.of("image").shift_D.any()


def test_a_finished_run_is_left_as_it_is(store: ActivationStore, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, steps=10)
    run = fit(store, config, tmp_path / "run")
    before = (run / "model.safetensors").stat().st_mtime_ns
    fit(store, config, run)
    assert (run / "model.safetensors").stat().st_mtime_ns == before


def test_another_configuration_in_the_same_folder_is_refused(
    store: ActivationStore, tmp_path: Path
) -> None:
    fit(store, dataclasses.replace(CONFIG, steps=10), tmp_path / "run")
    with pytest.raises(TrainingError, match="steps 10 there, 11 asked.*choose another `--out`"):
        fit(store, dataclasses.replace(CONFIG, steps=11), tmp_path / "run")


def test_two_processes_do_not_fit_into_one_folder(store: ActivationStore, tmp_path: Path) -> None:
    run = fit(store, dataclasses.replace(CONFIG, steps=10), tmp_path / "run")
    with held(run), pytest.raises(TrainingError, match="another process is fitting .* wait"):
        fit(store, dataclasses.replace(CONFIG, steps=10), run)


def test_non_finite_loss_stops_and_keeps_the_last_state(
    store: ActivationStore, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, lr=1e30, grad_clip=None, warmup=0.0, log_every=1)
    with pytest.raises(TrainingError, match="the loss became .* at step .*lower `--lr`"):
        fit(store, config, tmp_path / "run")
    assert not (tmp_path / "run" / "fit.json").exists()


def test_a_damaged_checkpoint_is_named(store: ActivationStore, tmp_path: Path) -> None:
    run = fit(store, dataclasses.replace(CONFIG, steps=20), tmp_path / "run")
    (run / "fit.json").unlink()
    data = (run / "checkpoint.safetensors").read_bytes()
    (run / "checkpoint.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(TrainingError, match="checkpoint.safetensors` is damaged .*delete it"):
        fit(store, dataclasses.replace(CONFIG, steps=20), run)


def history(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def test_a_fit_says_what_its_agreement_is_worth(store: ActivationStore, tmp_path: Path) -> None:
    fit(store, ALIGNS, tmp_path / "run")
    watched = [line for line in history(tmp_path / "run") if "train/usage" in line]
    assert [line["step"] for line in watched] == [20, 40, 60]
    assert 1 < watched[-1]["train/usage"] <= 48
    assert watched[-1]["train/agreement_adjusted"] > watched[0]["train/agreement_adjusted"]


def test_agreement_that_few_concepts_buy_is_warned_of_once(
    store: ActivationStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Teaching alone, nothing against it: everybody selects the same few."""
    free = SelectorConfig(
        balance_lr=0.0, teach_weight=30.0, contrast_weight=0.0, code_contrast_weight=0.0,
        pre_code_weight=0.0, lr=0.05, start=0.01,
    )  # fmt: skip
    fit(store, dataclasses.replace(ALIGNS, selector=free, steps=300), tmp_path / "run")
    assert history(tmp_path / "run")[-2]["train/usage"] < 12
    said = [r.getMessage() for r in caplog.records if "only" in r.getMessage()]
    streams = [re.findall("`(.*?)`", sentence)[0] for sentence in said]
    assert streams
    assert len(streams) == len(set(streams))


@pytest.mark.slow
def test_resampling_revives_dead_latents(store: ActivationStore, tmp_path: Path) -> None:
    """Of twice as many latents as atoms a part dies; resampling brings it back."""
    dead = {}
    for every in (None, 20):
        run = tmp_path / f"run{every}"
        config = dataclasses.replace(
            CONFIG, steps=400, dead_after=20, resample_every=every, keep="last"
        )
        fit(store, config, run)
        dead[every] = [line["dead"] for line in history(run) if "dead" in line][-1]
    assert dead[None] >= 6
    assert dead[20] <= dead[None] // 3, dead


def command(store: Path, run: Path) -> list[str]:
    words = f"-m training fit --store {store} --out {run} --num-concepts 48 --k 4 --batch-size 32"
    words += " --steps 400 --checkpoint-every 7 --validate-every 20 --seed 3"
    return [sys.executable, *words.split()]


def test_a_run_killed_at_random_points_resumes_to_the_bit(
    store: ActivationStore, tmp_path: Path
) -> None:
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command(store.path, tmp_path / "whole"), env=env, check=True)
    rng = np.random.default_rng()
    kills = 0
    torn = tmp_path / "torn"
    while kills < 3:
        process = subprocess.Popen(command(store.path, torn), env=env)
        while not (torn / "checkpoint.safetensors").is_file() and process.poll() is None:
            time.sleep(0.02)
        time.sleep(float(rng.uniform(0, 1.5)))
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    subprocess.run(command(store.path, torn), env=env, check=True)
    for name in ("model.safetensors", "checkpoint.safetensors"):
        whole, resumed = load_file(tmp_path / "whole" / name), load_file(torn / name)
        assert whole.keys() == resumed.keys()
        assert all(torch.equal(whole[key], resumed[key]) for key in whole), name
    _, facts = load_tensors(torn / "model.safetensors")
    assert facts == load_tensors(tmp_path / "whole" / "model.safetensors")[1]
    history = (torn / "history.jsonl").read_text()
    assert history == (tmp_path / "whole" / "history.jsonl").read_text()
