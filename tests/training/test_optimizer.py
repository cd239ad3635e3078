"""The fused step against torch's projection, clipping, Adam and normalisation one by one."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from training.optimizer import DictionaryAdam


def parameters() -> list[nn.Parameter]:
    torch.manual_seed(0)
    dictionary_CD = nn.functional.normalize(torch.randn(70, 13), dim=1)
    return [nn.Parameter(t) for t in (torch.randn(70, 13), torch.randn(13), dictionary_CD)]


def gradients(step: int) -> list[Tensor]:
    torch.manual_seed(100 + step)
    return [torch.randn(p.shape) * 10.0 ** (step % 3 - 1) for p in parameters()]


def by_torch(given: list[nn.Parameter], grad_clip: float | None, renormalise: str) -> None:
    adam = torch.optim.Adam(given, lr=0.01)
    rows_CD = given[2]
    for step in range(6):
        for parameter, grad in zip(given, gradients(step), strict=True):
            parameter.grad = grad
        with torch.no_grad():
            if renormalise == "before_step":
                rows_CD.copy_(nn.functional.normalize(rows_CD, dim=1))
            assert rows_CD.grad is not None
            rows_CD.grad -= (rows_CD.grad * rows_CD).sum(1, keepdim=True) * rows_CD
            if grad_clip is not None:
                nn.utils.clip_grad_norm_(given, grad_clip)
            adam.step()
            if renormalise == "after_step":
                rows_CD.copy_(nn.functional.normalize(rows_CD, dim=1))


@pytest.mark.parametrize("grad_clip", [None, 1.0, 1e6])
@pytest.mark.parametrize("renormalise", ["after_step", "before_step"])
@pytest.mark.parametrize("fused", [True, False], ids=["compiled", "torch"])
def test_steps_are_torch_adams(
    grad_clip: float | None,
    renormalise: Literal["after_step", "before_step"],
    fused: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not fused:
        monkeypatch.setattr("training.optimizer._is_plain", lambda _: False)
    ours, wanted = parameters(), parameters()
    optimizer = DictionaryAdam(
        ours, [ours[2]], lr=0.01, grad_clip=grad_clip, renormalise=renormalise
    )
    for step in range(6):
        for parameter, grad in zip(ours, gradients(step), strict=True):
            parameter.grad = grad
        optimizer.step()
    by_torch(wanted, grad_clip, renormalise)
    for mine, theirs in zip(ours, wanted, strict=True):
        # six float32 updates of 0.01; where a gradient is near 0, m / √v magnifies its rounding
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    assert set(optimizer.state[ours[0]]) == {"step", "exp_avg", "exp_avg_sq"}
    assert optimizer.state[ours[0]]["step"] == 6


def test_a_parameter_without_gradient_stays() -> None:
    ours = parameters()
    optimizer = DictionaryAdam(ours, [ours[2]], lr=0.01, grad_clip=1.0, renormalise="after_step")
    ours[1].grad = torch.ones(13)
    before = [p.detach().clone() for p in ours]
    optimizer.step()
    assert torch.equal(ours[0], before[0])
    assert not torch.equal(ours[1], before[1])
