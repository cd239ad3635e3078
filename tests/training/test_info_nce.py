"""InfoNCE by masks against cross-entropies of the rows that are there."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from training.info_nce import mean_info_nce


def wanted(products: list[torch.Tensor], both_NP: torch.Tensor, temperature: float) -> torch.Tensor:
    terms = []
    for product_NN, both_N in zip(products, both_NP.T, strict=True):
        logits_MM = product_NN[both_N][:, both_N] / temperature
        if len(logits_MM) > 1:
            own_M = torch.arange(len(logits_MM))
            terms.append(cross_entropy(logits_MM, own_M) + cross_entropy(logits_MM.T, own_M))
    return torch.stack(terms).mean() / 2


@pytest.mark.parametrize("temperature", [1.0, 0.1, 1e-3])
@pytest.mark.parametrize("rows", [[9, 9, 9], [5, 2, 1], [0, 4, 0]])
def test_rows_left_out_do_not_matter(rows: list[int], temperature: float) -> None:
    torch.manual_seed(0)
    products = [torch.randn(9, 9, requires_grad=True) for _ in rows]
    both_NP = torch.stack([torch.randperm(9) < count for count in rows], dim=1)
    got, want = (f(products, both_NP, temperature) for f in (mean_info_nce, wanted))
    torch.testing.assert_close(got, want)
    ours = torch.autograd.grad(3 * got, products)
    theirs = torch.autograd.grad(3 * want, products, allow_unused=True)
    for mine, dense in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, torch.zeros(9, 9) if dense is None else dense)


def test_without_pairs_or_rows_it_is_nothing() -> None:
    assert mean_info_nce([], torch.ones(4, 0, dtype=torch.bool), 0.1) == 0
    product_NN = torch.randn(4, 4, requires_grad=True)
    none = mean_info_nce([product_NN], torch.zeros(4, 1, dtype=torch.bool), 0.1)
    assert none == 0
    assert not torch.autograd.grad(none, product_NN)[0].any()
