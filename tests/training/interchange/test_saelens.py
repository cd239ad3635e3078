"""SAELens views: their codes are the stream's own, through SAELens itself too; and refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from koine.errors import ExportError, UnknownStreamError
from tests.training.evaluation.stores import WIDTHS, write_store
from training.__main__ import main
from training.activations import ActivationStore
from training.checkpoint import load_model
from training.configs import SPARC_AS_PUBLISHED, FitConfig, aligned
from training.interchange import saelens
from training.interchange.saelens import write_views
from training.trainer import fit

ROOT = Path(__file__).parents[3]
SMALL: dict[str, Any] = {"num_concepts": 48, "k": 5, "steps": 30, "batch_size": 32}
TOLERANCE = 1e-4
"""Of a code, float32: normalisation, scale and √D are multiplied in another order."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ActivationStore:
    return write_store(tmp_path_factory.mktemp("store") / "store", items=200)


def fitted(store: ActivationStore, config: FitConfig, folder: Path) -> Path:
    return fit(store, config, folder / "run", device="cpu")


@pytest.mark.parametrize("method", ["sparc", "koine"])
def test_a_view_encodes_as_its_stream_does(
    method: str, store: ActivationStore, tmp_path: Path
) -> None:
    base = SPARC_AS_PUBLISHED if method == "sparc" else {}
    run = fitted(store, FitConfig(**{**base, **SMALL}), tmp_path)
    views = write_views(run, tmp_path / "views")
    assert [view.stream for view in views] == list(WIDTHS)
    for view in views:
        assert view.exact
        assert view.agreement.items > 0
        assert view.agreement.jaccard > saelens.LEAST_JACCARD
        assert view.agreement.error < TOLERANCE
        assert abs(view.agreement.fvu - view.agreement.stream_fvu) < TOLERANCE
        config = json.loads((tmp_path / "views" / view.stream / "cfg.json").read_text())
        tensors = load_file(tmp_path / "views" / view.stream / "sae_weights.safetensors")
        assert (config["architecture"], config["k"]) == ("topk", 5)
        assert tuple(tensors["W_enc"].shape) == (config["d_in"], config["d_sae"])
        assert tuple(tensors["W_dec"].shape) == (config["d_sae"], config["d_in"])
    card = (tmp_path / "views" / "README.md").read_text()
    assert "library_name: saelens" in card
    assert "Independent encodings only" in card
    assert "not the codes that Koine serves" not in card


def test_a_run_with_a_selector_is_refused_or_says_what_it_is_not(
    store: ActivationStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fitted(store, aligned(**SMALL), tmp_path)
    assert main(["saelens", str(run)]) == 1
    assert "which no architecture of SAELens can express" in capsys.readouterr().err
    assert not (run / "saelens").exists()
    assert main(["saelens", str(run), "--pre-codes", "--stream", "beta"]) == 0
    assert [path.name for path in (run / "saelens").iterdir() if path.is_dir()] == ["beta"]
    assert "**These are not the codes that Koine serves.**" in (
        (run / "saelens" / "README.md").read_text()
    )
    config = json.loads((run / "saelens" / "beta" / "cfg.json").read_text())
    assert config["metadata"]["koine_encoding"] == "pre-codes only"


def test_views_that_encode_otherwise_are_not_written(
    store: ActivationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fitted(store, FitConfig(**SMALL), tmp_path)
    folded = saelens.folded

    def wrong(stream: saelens.Stream) -> dict[str, torch.Tensor]:
        return {**folded(stream), "b_dec": torch.zeros(stream.encoder_CD.shape[1])}

    monkeypatch.setattr(saelens, "folded", wrong)
    with pytest.raises(ExportError, match="does not encode as the stream does"):
        write_views(run, tmp_path / "views")
    assert not (tmp_path / "views").exists()


def test_what_is_not_there_or_would_be_overwritten_is_refused(
    store: ActivationStore, tmp_path: Path
) -> None:
    run = fitted(store, FitConfig(**SMALL), tmp_path)
    with pytest.raises(UnknownStreamError, match="'delta' is no stream of it"):
        write_views(run, tmp_path / "views", streams=["delta"])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(ExportError, match="holds files but no SAELens view"):
        write_views(run, tmp_path / "mine")
    write_views(run, tmp_path / "views")
    write_views(run, tmp_path / "views", streams=["beta"])  # replaces its own
    assert not (tmp_path / "views" / "alpha").exists()


_THERE = """
import sys, numpy, torch
from sae_lens import SAE
for name in sys.argv[2:]:
    sae = SAE.load_from_disk(f"{sys.argv[1]}/{name}")
    acts = torch.from_numpy(numpy.load(f"{sys.argv[1]}/{name}/acts.npy"))
    codes = sae.encode(acts)
    numpy.save(f"{sys.argv[1]}/{name}/codes.npy", codes.detach().numpy())
    numpy.save(f"{sys.argv[1]}/{name}/rebuilt.npy", sae.decode(codes).detach().numpy())
"""


@pytest.mark.slow
def test_saelens_itself_loads_the_views(store: ActivationStore, tmp_path: Path) -> None:
    """Installs SAELens into an environment of its own: it brings a hundred packages."""
    run = fitted(store, FitConfig(**{**SPARC_AS_PUBLISHED, **SMALL, "lr": 1e-3}), tmp_path)
    views = write_views(run, tmp_path / "views")
    names = [view.stream for view in views]
    for name in names:
        acts_ND = store.gather(np.arange(40), None).acts[name]
        acts_ND = acts_ND[np.linalg.norm(acts_ND, axis=1) > 0] * 7  # any norm
        np.save(tmp_path / "views" / name / "acts.npy", acts_ND.astype(np.float32))
    python = _environment(tmp_path / "saelens")
    subprocess.run([python, "-c", _THERE, str(tmp_path / "views"), *names], check=True, timeout=300)
    model = load_model(run)
    for name in names:
        folder = tmp_path / "views" / name
        acts_ND = torch.from_numpy(np.load(folder / "acts.npy"))
        codes = model.encode({name: acts_ND}, "independent")[name]
        codes_NC = torch.zeros(len(acts_ND), 48).scatter(1, codes.indices_NK, codes.values_NK)
        seen_NC = torch.from_numpy(np.load(folder / "codes.npy"))
        assert torch.equal(seen_NC > 0, codes_NC > 0)
        torch.testing.assert_close(seen_NC, codes_NC, rtol=0, atol=TOLERANCE)
        norm_N1 = acts_ND.norm(dim=1, keepdim=True)
        rebuilt_ND = torch.from_numpy(np.load(folder / "rebuilt.npy")) / norm_N1
        torch.testing.assert_close(rebuilt_ND, model.decode(name, codes), rtol=0, atol=TOLERANCE)


def _environment(path: Path) -> Path:
    uv = [str(Path(sys.executable).with_name("uv"))]
    lock = ROOT / "requirements" / "saelens.lock"
    python = path / "bin" / "python"
    subprocess.run([*uv, "venv", "-q", "--python", sys.executable, str(path)], check=True)
    done = subprocess.run(
        [*uv, "pip", "install", "-q", "--python", str(python), "--require-hashes", "-r", str(lock)],
        env={**os.environ, "UV_LINK_MODE": "hardlink"},
        capture_output=True,
        text=True,
    )
    if "error sending request" in done.stderr or "dns error" in done.stderr:
        pytest.skip("no package registry can be reached: SAELens cannot be installed")
    assert done.returncode == 0, done.stderr
    return python
