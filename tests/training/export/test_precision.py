"""Artifacts in fewer bits: measured, gated, and served as any other."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from koine.artifact import Artifact
from koine.codes import Codes
from koine.decoders import Decoders
from koine.encoder import ConceptEncoder
from koine.errors import ExportError
from koine.manifest import DECODERS
from tests.training.stores import atoms_store
from training.activations.store import ActivationStore
from training.configs import aligned
from training.export import comparison
from training.export.build import export
from training.export.fidelity import chance_jaccard, support_jaccard
from training.export.head import quantised_rows
from training.export.precision import Kind, PrecisionConfig
from training.trainer import fit

CONFIG = aligned(num_concepts=40, k=4, batch_size=32, steps=40, validate_every=20)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ActivationStore:
    return atoms_store(tmp_path_factory.mktemp("atoms") / "store", unpaired=True)


@pytest.fixture(scope="module")
def run(store: ActivationStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(store, CONFIG, tmp_path_factory.mktemp("runs") / "aligned")


@pytest.fixture(scope="module")
def full(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return export(run, tmp_path_factory.mktemp("full") / "artifact").artifact


@pytest.mark.parametrize("kind", ["fp16", "int8"])
def test_smaller_heads_answer_nearly_the_same(
    run: Path, full: Artifact, store: ActivationStore, tmp_path: Path, kind: Kind
) -> None:
    asked = PrecisionConfig(kind=kind, min_jaccard=0.9)
    small = export(run, tmp_path / "small", precision=asked).artifact
    precision = small.manifest.precision
    assert precision is not None
    assert precision.kind == kind
    assert {s.method for s in precision.streams.values()} == {"heads only"}
    assert all(s.support_jaccard >= 0.9 for s in precision.streams.values())
    assert full.manifest.precision is None
    acts = {"image": store.gather(store.split("test")).acts["image"]}
    codes = [ConceptEncoder(a).encode(acts)["image"] for a in (full, small)]
    assert support_jaccard(*codes) > 0.9
    decoded = [
        Decoders(a.file(DECODERS)).decode("image", codes[0].indices_NK, codes[0].values_NK)
        for a in (full, small)
    ]
    assert decoded[1].dtype == np.float32
    np.testing.assert_allclose(decoded[1], decoded[0], atol=2e-3)  # half precision: 2^-11
    assert f"Precision: {kind}" in (small.path / "README.md").read_text()


def test_below_the_gate_the_previous_artifact_stays(
    run: Path, full: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "support_jaccard", lambda *_: 0.94321)
    shutil.copytree(full.path, tmp_path / "artifact")
    asked = PrecisionConfig(kind="int8", min_jaccard=0.95)
    with pytest.raises(
        ExportError, match=r"Jaccard `\w+` 0\.943 on \d+ items .* at least 0\.95 is"
    ):
        export(run, tmp_path / "artifact", version="2", precision=asked)
    assert Artifact.open(tmp_path / "artifact").manifest == full.manifest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artifact"]


@pytest.mark.parametrize("wrong", [{"min_jaccard": 1.5}, {"calibrate_on": 0}])
def test_nonsense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PrecisionConfig(kind="int8", **wrong)


def test_int8_rows_err_by_half_a_step() -> None:
    rows_CD = np.random.default_rng(0).normal(size=(6, 50)).astype(np.float32)
    rows_CD[2] = 0
    scales_C1, values_CD = quantised_rows(rows_CD)
    assert values_CD.dtype == np.int8
    assert (np.abs(values_CD * scales_C1 - rows_CD) <= scales_C1 * 0.5001).all()
    assert not values_CD[2].any()


def test_jaccard_counts_pads_as_nothing() -> None:
    def codes(*rows: list[int]) -> Codes:
        indices_NK = np.array(rows, np.int32)
        values_NK = (indices_NK >= 0).astype(np.float32)
        return Codes(indices_NK, values_NK, np.zeros(len(rows), np.float32))

    one, other = codes([3, 1], [2, -1], [-1, -1]), codes([1, 2], [2, -1], [-1, -1])
    assert support_jaccard(one, other) == pytest.approx((1 / 3 + 1 + 1) / 3)
    assert chance_jaccard(one, other) == pytest.approx(0.5 / 3)
