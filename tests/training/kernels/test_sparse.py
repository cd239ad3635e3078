"""Sparse pre-codes and reconstructions against the dense formulation, values and gradients."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from training.kernels.sparse import (
    SparseRows,
    Support,
    corrected,
    inner_products,
    reconstruct,
    rows_at,
    values_at,
)

# float32 sums of up to 64 products of unit normals, in another order
CLOSE = 1e-4


class Sizes(NamedTuple):
    supports: int
    sources: int
    items: int
    width: int
    concepts: int
    k: int


SIZES = [
    Sizes(1, 3, 33, 20, 50, 4),
    Sizes(3, 1, 33, 20, 50, 4),
    Sizes(1, 1, 1, 1, 1, 1),
    Sizes(1, 2, 17, 13, 29, 7),
    Sizes(2, 1, 5, 3, 700, 600),
    Sizes(1, 3, 70, 5, 131_072, 9),
]


def random_indices(sizes: Sizes) -> Tensor:
    torch.manual_seed(0)
    rows = [torch.randperm(sizes.concepts)[: sizes.k] for _ in range(sizes.supports * sizes.items)]
    return torch.stack(rows).view(sizes.supports, sizes.items, sizes.k)


def leaves(*shapes: tuple[int, ...]) -> list[Tensor]:
    return [torch.randn(shape).requires_grad_() for shape in shapes]


def assert_same_gradients(got: Tensor, wanted: Tensor, parameters: list[Tensor]) -> None:
    torch.testing.assert_close(got, wanted, rtol=CLOSE, atol=CLOSE)
    weights = torch.randn_like(got)
    ours = torch.autograd.grad((got * weights).sum(), parameters)
    dense = torch.autograd.grad((wanted * weights).sum(), parameters)
    for mine, theirs in zip(ours, dense, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=CLOSE, atol=CLOSE)


@pytest.mark.parametrize("sizes", [s for s in SIZES if s.supports == 1], ids=str)
def test_values_are_the_dense_pre_codes_at_the_support(sizes: Sizes) -> None:
    indices_UNK = random_indices(sizes)
    z_ND = torch.randn(sizes.items, sizes.width)
    parameters = leaves((sizes.width,), (sizes.concepts, sizes.width), (sizes.concepts,))
    pre_bias_D, encoder_CD, bias_C = parameters
    got = values_at(z_ND, pre_bias_D, encoder_CD, bias_C, Support.of(indices_UNK, sizes.concepts))
    pre_NC = torch.nn.functional.linear(z_ND - pre_bias_D, encoder_CD, bias_C)
    assert_same_gradients(got, pre_NC.gather(1, indices_UNK[0]), parameters)


@pytest.mark.parametrize("sizes", [s for s in SIZES if s.supports == 1], ids=str)
def test_corrections_are_those_of_the_dense_residual(sizes: Sizes) -> None:
    indices_UNK = random_indices(sizes)
    z_ND, pre_NK = torch.randn(sizes.items, sizes.width), 5 * torch.randn(sizes.items, sizes.k)
    dictionary_CD, bias_D = torch.randn(sizes.concepts, sizes.width), torch.randn(sizes.width)
    rate, softness = 0.3 / (sizes.width + sizes.k), 0.1
    support = Support.of(indices_UNK, sizes.concepts)
    got_NK = corrected(
        pre_NK, z_ND, dictionary_CD, bias_D, support, times=3, rate=rate, softness=softness
    )
    rows_NKD, want_NK = dictionary_CD[indices_UNK[0]], pre_NK
    for _ in range(3):
        codes_NK = torch.nn.functional.softplus(want_NK, beta=1 / softness)
        residual_ND = torch.einsum("nk,nkd->nd", codes_NK, rows_NKD) + bias_D - z_ND
        want_NK = want_NK - rate * torch.einsum("nd,nkd->nk", residual_ND, rows_NKD)
    torch.testing.assert_close(got_NK, want_NK, rtol=CLOSE, atol=CLOSE)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_errors_are_those_of_the_dense_reconstruction(sizes: Sizes) -> None:
    indices_UNK = random_indices(sizes)
    z_ND = torch.randn(sizes.items, sizes.width)
    lead = (sizes.supports, sizes.sources, sizes.items)
    parameters = leaves((*lead, sizes.k), (sizes.concepts, sizes.width), (sizes.width,))
    values_USNK, dictionary_CD, bias_D = parameters
    with torch.no_grad():
        values_USNK *= sizes.k**-0.5
    got = reconstruct(
        values_USNK, dictionary_CD, bias_D, z_ND, Support.of(indices_UNK, sizes.concepts)
    )
    index = indices_UNK[:, None].expand_as(values_USNK)
    codes_USNC = torch.zeros(*lead, sizes.concepts).scatter(3, index, values_USNK)
    residual_USND = codes_USNC @ dictionary_CD + bias_D - z_ND
    torch.testing.assert_close(got.residual_USND, residual_USND.detach(), rtol=CLOSE, atol=CLOSE)
    assert_same_gradients(got.error_USN, residual_USND.square().sum(3), parameters)


def test_a_step_repeated_is_the_same_to_the_bit_for_any_number_of_threads() -> None:
    sizes = Sizes(1, 3, 200, 33, 500, 9)
    support = Support.of(random_indices(sizes), sizes.concepts)
    z_ND = torch.randn(sizes.items, sizes.width)
    parameters = leaves((1, 3, 200, 9), (500, 33), (33,))
    values_USNK, dictionary_CD, bias_D = parameters
    found = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 4):
            torch.set_num_threads(count)
            out = reconstruct(values_USNK, dictionary_CD, bias_D, z_ND, support)
            found.append([*out, *torch.autograd.grad(out.error_USN.sum(), parameters[:2])])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, four) for one, four in zip(*found, strict=True))


def test_codes_cut_off_by_relu_have_the_gradients_of_the_dense_formulation() -> None:
    sizes = Sizes(1, 2, 40, 9, 30, 6)
    indices_UNK = random_indices(sizes)
    z_ND = torch.randn(40, 9)
    parameters = leaves((1, 2, 40, 6), (30, 9), (9,))
    pre_USNK, dictionary_CD, bias_D = parameters
    support = Support.of(indices_UNK, 30)
    got = reconstruct(pre_USNK.relu(), dictionary_CD, bias_D, z_ND, support)
    codes_USNC = torch.zeros(1, 2, 40, 30)
    codes_USNC = codes_USNC.scatter(3, indices_UNK[:, None].expand_as(pre_USNK), pre_USNK.relu())
    error_USN = (codes_USNC @ dictionary_CD + bias_D - z_ND).square().sum(3)
    assert_same_gradients(got.error_USN, error_USN, parameters)


@pytest.mark.parametrize(("one", "other", "concepts", "k"), [(7, 5, 30, 4), (1, 3, 9, 9)])
def test_inner_products_are_those_of_the_dense_rows(
    one: int, other: int, concepts: int, k: int
) -> None:
    sides = [random_indices(Sizes(1, 1, n, 1, concepts, k))[0] for n in (one, other)]
    parameters = leaves((one, k), (other, k))
    rows = [
        SparseRows.of(values_LK, indices_LK, concepts)
        for values_LK, indices_LK in zip(parameters, sides, strict=True)
    ]
    dense_LC, dense_MC = (
        torch.zeros(len(values_LK), concepts).scatter(1, indices_LK, values_LK)
        for values_LK, indices_LK in zip(parameters, sides, strict=True)
    )
    assert_same_gradients(inner_products(*rows), dense_LC @ dense_MC.T, parameters)


def test_rows_at_sends_gradients_back_to_their_rows() -> None:
    (weight_CD,) = leaves((11, 3))
    chosen_L = torch.tensor([7, 0, 3])
    assert_same_gradients(rows_at(weight_CD, chosen_L), weight_CD[chosen_L], [weight_CD])


def test_support_lists_pairs_by_concept() -> None:
    support = Support.of(torch.tensor([[[2, 0], [2, 3]]]), 5)
    assert support.starts_C.tolist() == [0, 1, 1, 3, 4, 4]
    assert support.pairs_P.tolist() == [1, 0, 2, 3]
