"""The terms that make streams agree, against the formulas they stand for."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.stores import atoms_store
from tests.training.test_model import WIDTHS, make_acts
from training.alignment import (
    SupportCrossEntropy,
    alignment,
    balance,
    plant_prototypes,
    seen,
)
from training.configs import ALIGNED, FitConfig, SelectorConfig
from training.info_nce import mean_info_nce
from training.initial import initial_model
from training.kernels.sparse import Support
from training.losses import forward
from training.model import AlignedDictionary, ModelConfig, dense
from training.parallel import ALONE, Group
from training.unit import unit

SELECTOR = SelectorConfig(width=5)


def make_model(selector: SelectorConfig = SELECTOR) -> AlignedDictionary:
    torch.manual_seed(0)
    return AlignedDictionary(ModelConfig(num_concepts=12, k=3, selector=selector), WIDTHS)


def all_of(model: AlignedDictionary, z: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: model.selector_of(name).components(z_ND) for name, z_ND in z.items()}


def test_cross_entropy_with_a_support_is_the_dense_one_with_its_gradients() -> None:
    torch.manual_seed(0)
    x_NR = torch.randn(7, 5, requires_grad=True)
    prototypes_CR = torch.randn(12, 5, requires_grad=True)
    support_NK = torch.rand(7, 12).topk(3, dim=1).indices
    weight_N = torch.rand(7)
    got = SupportCrossEntropy.apply(x_NR, prototypes_CR, support_NK, weight_N)
    log_p_NC = nn.functional.log_softmax(x_NR @ prototypes_CR.T, dim=1)
    want = -(log_p_NC.gather(1, support_NK).mean(1) * weight_N).sum()
    torch.testing.assert_close(got, want)
    for mine, theirs in zip(
        torch.autograd.grad(2 * got, (x_NR, prototypes_CR)),
        torch.autograd.grad(2 * want, (x_NR, prototypes_CR)),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


def test_contrast_is_info_nce_over_rows_that_have_both_streams() -> None:
    config = dataclasses.replace(SELECTOR, code_contrast_weight=0.0)
    model, acts = make_model(config), make_acts()
    present_NS = torch.ones(7, 3, dtype=torch.bool)
    present_NS[:2, 2] = False
    out = forward(model, acts, present_NS, present_NS)
    assert out.joint_NK is not None
    none_alone_N = torch.zeros(7, dtype=torch.bool)
    got = alignment(
        model, all_of(model, out.z), out.codes, out.joint_NK, none_alone_N, present_NS, False, ALONE
    )
    maps = {name: model.selector_of(name)(x) for name, x in all_of(model, out.z).items()}
    terms = []
    for a, b in ((0, 1), (0, 2), (1, 2)):
        names = list(maps)
        rows = [n for n in range(7) if present_NS[n, a] and present_NS[n, b]]
        for one, other in ((a, b), (b, a)):
            for n in rows:
                similar = [
                    maps[names[one]][n] @ maps[names[other]][m] / config.contrast_temperature
                    for m in rows
                ]
                own = similar[rows.index(n)]
                terms.append((torch.stack(similar).logsumexp(0) - own) / len(rows) / 6)
    torch.testing.assert_close(got.contrast, torch.stack(terms).sum())
    assert got.teach == 0
    assert got.code_contrast == 0


def test_code_contrast_is_over_the_first_items_that_chose_alone() -> None:
    config = dataclasses.replace(SELECTOR, code_contrast_items=3, contrast_weight=0.0)
    model, acts = make_model(config), make_acts()
    present_NS = torch.ones(7, 3, dtype=torch.bool)
    out = forward(model, acts, present_NS, present_NS)
    assert out.joint_NK is not None
    alone_N = torch.tensor([False, True, False, True, True, True, False])
    got = alignment(
        model, all_of(model, out.z), out.codes, out.joint_NK, alone_N, present_NS, False, ALONE
    )
    rows = [unit(dense(codes, 12))[[1, 3, 4]] for codes in out.codes.values()]
    products = [one_LC @ other_LC.T for one_LC, other_LC in itertools.combinations(rows, 2)]
    both_LP = torch.ones(3, 3, dtype=torch.bool)
    want = mean_info_nce(products, both_LP, config.code_contrast_temperature)
    torch.testing.assert_close(got.code_contrast, want)


def test_hidden_components_depend_on_seed_step_and_item_alone() -> None:
    config = dataclasses.replace(SELECTOR, dropout=0.5, components=40)
    shape = ModelConfig(num_concepts=12, k=3, selector=config)
    model, z = AlignedDictionary(shape, {"a": 50}), {"a": torch.ones(8, 50)}
    whole = seen(model, z, 1, 2, ALONE)["a"]
    assert whole.shape == (8, 40)
    assert set(whole.unique().tolist()) == {0.0, 2.0}
    assert 0.4 < (whole > 0).float().mean() < 0.6
    part = seen(model, {"a": z["a"][:4]}, 1, 2, Group(rank=1, size=2))["a"]
    assert part.equal(whole[4:])
    assert not seen(model, z, 1, 3, ALONE)["a"].equal(whole)


def test_balance_pushes_what_fires_too_often_down_and_too_rarely_up() -> None:
    model = make_model(dataclasses.replace(SELECTOR, most_rate=0.5, least_rate=0.5))
    own_NK = torch.tensor([[0, 1, 2]] * 4)
    for _ in range(30):
        balance(model, dict.fromkeys(WIDTHS, own_NK), torch.ones(4, 3, dtype=torch.bool), ALONE)
    bias_C = model.selector_of("text").score_bias_C
    assert (bias_C[:3] < 0).all()
    assert (bias_C[3:] > 0).all()


def test_rows_that_lack_a_stream_do_not_count_for_its_balance() -> None:
    model = make_model(dataclasses.replace(SELECTOR, least_rate=1.0))
    present_NS = torch.tensor([[True, True, False]] * 4)
    own_NK = torch.tensor([[0, 1, 2]] * 4)
    balance(model, dict.fromkeys(WIDTHS, own_NK), present_NS, ALONE)
    assert model.selector_of("image").score_bias_C.any()
    assert not model.selector_of("other").score_bias_C.any()


@pytest.mark.parametrize("num_concepts", [16, 400])
def test_prototypes_are_places_of_training_items(tmp_path: Path, num_concepts: int) -> None:
    store = atoms_store(tmp_path / "store", unpaired=True)
    config = FitConfig(num_concepts=num_concepts, k=4, **ALIGNED)
    rows = store.split("train")[:100]
    models = [initial_model(store, config) for _ in range(2)]
    for model in models:
        plant_prototypes(model, store, rows, seed=3)
    assert models[0].prototypes_CR.equal(models[1].prototypes_CR)
    batch = store.gather(rows, None)
    places_NR = torch.zeros(len(rows), config.selector.width if config.selector else 0)
    names = [s.name for s in store.streams]
    for name in models[0].streams:
        stream = models[0].of(name)
        z_ND = stream.normalise(torch.from_numpy(batch.acts[name]))
        here_N = torch.from_numpy(batch.present_NS[:, names.index(name)])
        selector = models[0].selector_of(name)
        places_NR += selector(selector.components(z_ND)).detach() * here_N[:, None]
    nearest_C = (unit(models[0].prototypes_CR.detach()) @ unit(places_NR).T).max(1).values
    # copies get noise of norm 0.02 · √64 where concepts outnumber items
    assert nearest_C.min() > (0.999 if num_concepts == 16 else 0.95)
    assert len(torch.unique(models[0].prototypes_CR, dim=0)) == num_concepts


def test_codes_are_positive_and_refining_lowers_the_own_error() -> None:
    errors = []
    for refinements in (0, 2, 8):
        model = make_model(dataclasses.replace(SELECTOR, refinements=refinements))
        name, acts_ND = "image", make_acts()["image"]
        z_ND = model.of(name).normalise(acts_ND)
        indices_NK = torch.tensor(np.random.default_rng(0).permuted([list(range(12))] * 7, axis=1))
        support = Support.of(indices_NK[None, :, :3].contiguous(), 12)
        codes_NK = model.codes_at(name, z_ND, support)
        assert (codes_NK > 0).all()
        stream = model.of(name)
        rebuilt_ND = torch.einsum(
            "nk,nkd->nd", codes_NK, stream.dictionary_CD[support.indices_UNK[0]]
        )
        errors.append((rebuilt_ND + stream.pre_bias_D - z_ND).square().sum().item())
    assert errors[0] > errors[1] > errors[2]


def test_streams_that_choose_alone_take_their_own_support() -> None:
    model, acts = make_model(), make_acts()
    present_NS = torch.ones(7, 3, dtype=torch.bool)
    selecting_NS = present_NS.clone()
    selecting_NS[3:, 1:] = False
    out = forward(model, acts, selecting_NS, present_NS)
    assert out.own is not None
    assert out.joint_NK is not None
    alone, joint = model.encode(acts, "independent"), model.encode(acts, "joint")
    for name, codes in out.codes.items():
        for n in range(7):
            wanted = alone if n >= 3 else joint
            assert set(codes.indices_NK[n].tolist()) == set(wanted[name].indices_NK[n].tolist())
