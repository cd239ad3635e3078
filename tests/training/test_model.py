"""Selection, encoding and decoding of the aligned dictionary, against plain loops."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.model import (
    AlignedDictionary,
    ModelConfig,
    TopK,
    dense,
    select,
    strongest_first,
    unit,
)

WIDTHS = {"image": 6, "text": 4, "other": 5}


def make_model(selection: str = "global", k: int = 3, concepts: int = 12) -> AlignedDictionary:
    torch.manual_seed(0)
    config = ModelConfig(num_concepts=concepts, k=k, selection=selection)  # pyright: ignore[reportArgumentType]
    model = AlignedDictionary(config, WIDTHS)
    for name in model.streams:
        stream = model.of(name)
        torch.nn.init.normal_(stream.pre_bias_D, std=0.1)
        torch.nn.init.normal_(stream.latent_bias_C, std=0.1)
        stream.shift_D.normal_(std=0.1)
        stream.scale.fill_(1.7)
    return model


def make_acts(n: int = 7) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {name: torch.randn(n, width) for name, width in WIDTHS.items()}


def naive_pre(model: AlignedDictionary, name: str, x_D: torch.Tensor) -> torch.Tensor:
    s = model.of(name)
    z_D = (x_D / (x_D.norm() + 1e-8) - s.shift_D) * s.scale
    return s.encoder_CD @ (z_D - s.pre_bias_D) + s.latent_bias_C


def naive_codes(pre_C: torch.Tensor, scores_C: torch.Tensor, k: int) -> dict[int, float]:
    chosen = sorted(range(len(scores_C)), key=lambda c: -float(scores_C[c]))[:k]
    return {c: float(pre_C[c]) for c in chosen if pre_C[c] > 0}


def as_dict(codes: TopK, row: int) -> dict[int, float]:
    pairs = zip(codes.indices_NK[row].tolist(), codes.values_NK[row].tolist(), strict=True)
    return {c: v for c, v in pairs if v > 0}


@torch.no_grad()
def test_independent_selection_is_topk_of_own_pre_codes() -> None:
    model, acts = make_model(), make_acts()
    codes = model.encode(acts, "independent")
    for name, x_ND in acts.items():
        for row, x_D in enumerate(x_ND):
            pre_C = naive_pre(model, name, x_D)
            assert as_dict(codes[name], row) == pytest.approx(naive_codes(pre_C, pre_C, 3))


@torch.no_grad()
def test_joint_selection_sums_present_streams_only() -> None:
    model, acts = make_model(), make_acts()
    present_NS = torch.ones(7, 3, dtype=torch.bool)
    present_NS[2, 0] = present_NS[4, 1] = present_NS[4, 2] = False
    codes = model.encode(acts, "joint", present_NS)
    for row in range(7):
        pre = {n: naive_pre(model, n, acts[n][row]) for n in WIDTHS}
        here = [n for i, n in enumerate(WIDTHS) if present_NS[row, i]]
        scores_C = torch.stack([pre[n] for n in here]).sum(0)
        for name in WIDTHS:
            expected = naive_codes(pre[name], scores_C, 3) if name in here else {}
            # float32 sums of six terms of order 1: near 1e-7 whatever the result's size
            assert as_dict(codes[name], row) == pytest.approx(expected, abs=1e-6)


def test_joint_of_one_stream_is_independent() -> None:
    model, acts = make_model(), make_acts()
    only = {"text": acts["text"]}
    joint, alone = model.encode(only, "joint")["text"], model.encode(only, "independent")["text"]
    assert torch.equal(joint.indices_NK, alone.indices_NK)
    assert torch.equal(joint.values_NK, alone.values_NK)


def test_local_topk_selects_alone_in_either_mode() -> None:
    model, acts = make_model("local"), make_acts()
    joint, alone = model.encode(acts, "joint"), model.encode(acts, "independent")
    for name in WIDTHS:
        assert torch.equal(joint[name].indices_NK, alone[name].indices_NK)


@torch.no_grad()
def test_decode_undoes_the_normalisation() -> None:
    model, acts = make_model(), make_acts()
    codes = model.encode(acts, "independent")["image"]
    s = model.of("text")
    for row, decoded_D in enumerate(model.decode("text", codes)):
        z_D = s.pre_bias_D.clone()
        for concept, value in as_dict(codes, row).items():
            z_D += value * s.dictionary_CD[concept]
        torch.testing.assert_close(decoded_D, z_D / s.scale + s.shift_D)


@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 2**31))
@settings(deadline=None, max_examples=50)
def test_strongest_first_keeps_codes_and_sorts(n: int, k: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    indices_NK = torch.stack([torch.randperm(20, generator=generator)[:k] for _ in range(n)])
    values_NK = torch.randint(0, 3, (n, k), generator=generator).float()  # ties on purpose
    before = TopK(indices_NK, values_NK)
    after = strongest_first(before)
    assert torch.equal(dense(before, 20), dense(after, 20))
    for row_i, row_v in zip(after.indices_NK.tolist(), after.values_NK.tolist(), strict=True):
        keys = [(-v, i) for v, i in zip(row_v, row_i, strict=True)]
        assert keys == sorted(keys)


def test_unit_of_a_zero_row_is_finite() -> None:
    assert torch.equal(unit(torch.zeros(1, 3)), torch.zeros(1, 3))


def test_select_on_meta_device_has_the_shape() -> None:
    pre = [torch.empty(5, 100, device="meta") for _ in range(3)]
    assert select(pre, 7).shape == (5, 7)


def test_dictionary_rows_start_at_unit_norm() -> None:
    model = make_model()
    for name in WIDTHS:
        norms_C = model.of(name).dictionary_CD.norm(dim=1)
        torch.testing.assert_close(norms_C, torch.ones_like(norms_C))
