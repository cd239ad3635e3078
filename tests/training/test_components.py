"""Whitened components against numpy on the rows themselves, and the weights of lone streams."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.stores import atoms_store
from training.components import SHRINKAGE, set_bases, whitened
from training.configs import SelectorConfig, aligned
from training.export.build import head_weights
from training.initial import initial_model, set_lone_weights
from training.model import AlignedDictionary, ModelConfig


def test_components_of_training_rows_are_uncorrelated_and_shrunk(tmp_path: Path) -> None:
    store = atoms_store(tmp_path / "store", unpaired=True)
    config = aligned(num_concepts=16, k=4, selector=SelectorConfig(components=5))
    model = initial_model(store, config)
    batch = store.gather(store.split("train"), None)
    for column, name in enumerate(("image", "other")):  # `words` draws one of three a row
        acts_ND = batch.acts[name][batch.present_NS[:, column]]
        z_ND = model.of(name).normalise(torch.from_numpy(acts_ND)).double()
        found_NP = z_ND @ model.selector_of(name).basis_PD.double().T
        covariance_PP = np.cov(found_NP.T.numpy(), bias=True)
        variance_P = np.linalg.eigvalsh(np.cov(z_ND.T.numpy(), bias=True))[::-1][:5]
        want_P = variance_P / (variance_P + SHRINKAGE * variance_P.mean())
        # float32 bases: relative errors near 1e-7 a term, some dozen terms
        np.testing.assert_allclose(covariance_PP, np.diag(want_P), atol=1e-5)


def test_no_more_components_than_dimensions_and_signs_are_fixed() -> None:
    torch.manual_seed(0)
    rows_ND = torch.randn(40, 6, dtype=torch.float64)
    covariance_DD = rows_ND.T @ rows_ND / 40
    basis_PD = whitened(covariance_DD, 6)
    largest_P = basis_PD.gather(1, basis_PD.abs().argmax(1, keepdim=True))
    assert (largest_P > 0).all()
    shape = ModelConfig(num_concepts=8, k=2, selector=SelectorConfig(components=99))
    assert AlignedDictionary(shape, {"a": 6}).selector_of("a").basis_PD.shape == (6, 6)


def test_a_direction_without_variance_stays_finite() -> None:
    basis_PD = whitened(torch.diag(torch.tensor([0.0, 4.0, 0.0], dtype=torch.float64)), 3)
    assert basis_PD.isfinite().all()
    assert basis_PD[0].abs().argmax() == 1


def test_bases_are_equal_each_time(tmp_path: Path) -> None:
    store = atoms_store(tmp_path / "store")
    config = aligned(num_concepts=16, k=4)
    first, second = initial_model(store, config), initial_model(store, config)
    set_bases(second, store)
    for name in first.streams:
        assert first.selector_of(name).basis_PD.equal(second.selector_of(name).basis_PD)


@pytest.mark.parametrize(
    ("modalities", "factors"),
    [(("image", "image", "text"), (1, 1, 2)), (("vector", "vector", "vector"), (1, 1, 1))],
)
def test_a_stream_alone_in_its_modality_weighs_its_pre_codes_more(
    tmp_path: Path, modalities: tuple[str, ...], factors: tuple[int, ...]
) -> None:
    store = atoms_store(tmp_path / "store")
    config = SelectorConfig(pre_code_weight=3.0, lone_factor=2.0)
    model = initial_model(store, aligned(num_concepts=16, k=4, selector=config))
    for name in model.streams:
        model.selector_of(name).pre_code_weight.fill_(3.0)
    specs = [
        spec.model_copy(update={"modality": modality})
        for spec, modality in zip(store.streams, modalities, strict=True)
    ]
    set_lone_weights(model, config, specs)
    got = [float(model.selector_of(name).pre_code_weight) for name in model.streams]
    assert got == [3.0 * factor for factor in factors]


def test_an_exported_map_goes_from_the_input_to_the_shared_space(tmp_path: Path) -> None:
    store = atoms_store(tmp_path / "store")
    model = initial_model(store, aligned(num_concepts=16, k=4))
    z_ND = torch.randn(7, model.of(model.streams[0]).encoder_CD.shape[1])
    chosen = model.selector_of(model.streams[0])
    exported = head_weights(model, model.streams[0]).selector
    assert exported is not None
    got_NR = z_ND @ torch.from_numpy(exported.map_RD).T
    want_NR = chosen.components(z_ND) @ chosen.map_RP.T
    torch.testing.assert_close(got_NR, want_NR, rtol=1e-4, atol=1e-5)  # two orders of summation
