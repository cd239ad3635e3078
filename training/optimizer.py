"""Adam for a dictionary: rows on the unit sphere, gradients tangential and clipped, in two passes.

Knows which parameters are dictionaries, nothing of losses. On the CPU each row is read once for
the norm and once for everything else; elsewhere torch's own kernels do the same steps one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from training.kernels import loops
from training.kernels.pool import over_blocks

_ROWS = 64
_CLIP_EPS = 1e-6  # torch.nn.utils.clip_grad_norm_'s


class DictionaryAdam(torch.optim.Adam):
    """torch.optim.Adam after projection and clipping; its state has the same names.

    Per dictionary row r: grad ← grad - (grad · r) r, then all gradients are scaled to a total norm
    of at most `grad_clip`, then Adam; `renormalise` says whether rows are brought back to unit
    norm first or last.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        dictionaries: Iterable[nn.Parameter],
        *,
        lr: float,
        grad_clip: float | None,
        renormalise: Literal["after_step", "before_step"],
    ) -> None:
        super().__init__(parameters, lr=lr, fused=True)
        self._dictionaries = {id(p) for p in dictionaries}
        self._grad_clip = grad_clip
        self._renormalise = renormalise

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One update of every parameter that has a gradient."""
        assert closure is None, "the trainer computes gradients itself"
        for group in self.param_groups:
            given = [p for p in group["params"] if p.grad is not None]
            if all(_is_plain(p) for p in given):
                self._step_on_cpu(given, group)
            else:
                self._step_by_torch(given)

    def _step_by_torch(self, given: list[nn.Parameter]) -> None:
        dictionaries = [p for p in given if id(p) in self._dictionaries]
        for rows_CD in dictionaries:
            if self._renormalise == "before_step":
                rows_CD.copy_(nn.functional.normalize(rows_CD, dim=1))
            assert rows_CD.grad is not None
            rows_CD.grad -= (rows_CD.grad * rows_CD).sum(1, keepdim=True) * rows_CD
        if self._grad_clip is not None:
            nn.utils.clip_grad_norm_(given, self._grad_clip)
        super().step()
        if self._renormalise == "after_step":
            for rows_CD in dictionaries:
                rows_CD.copy_(nn.functional.normalize(rows_CD, dim=1))

    def _step_on_cpu(self, given: list[nn.Parameter], group: dict[str, Any]) -> None:
        dots, total = [], 0.0
        for parameter in given:
            dots_C, squares_C = self._project(parameter)
            dots.append(dots_C)
            total += float(squares_C.sum(dtype=np.float64))
        clip = 1.0
        if self._grad_clip is not None:
            clip = min(1.0, self._grad_clip / (total**0.5 + _CLIP_EPS))
        for parameter, dots_C in zip(given, dots, strict=True):
            self._update(parameter, dots_C, clip, group)

    def _project(self, parameter: nn.Parameter) -> tuple[np.ndarray, np.ndarray]:
        rows, grad = _as_rows(parameter), _as_rows(parameter.grad)
        dots_C, squares_C = np.empty((2, len(rows)), np.float32)
        sphere = id(parameter) in self._dictionaries
        first = sphere and self._renormalise == "before_step"
        over_blocks(loops.projected, len(rows), _ROWS, rows, grad, dots_C, squares_C, sphere, first)
        return dots_C, squares_C

    def _update(
        self, parameter: nn.Parameter, dots_C: np.ndarray, clip: float, group: dict[str, Any]
    ) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        step, (beta_1, beta_2) = float(state["step"]), group["betas"]
        numbers = (
            clip,
            group["lr"] / (1 - beta_1**step),
            (1 - beta_2**step) ** -0.5,
            group["eps"],
            beta_1,
            1 - beta_1,
            beta_2,
            1 - beta_2,
        )
        rows = _as_rows(parameter)
        arrays = [
            rows,
            *(_as_rows(t) for t in (parameter.grad, state["exp_avg"], state["exp_avg_sq"])),
        ]
        last = id(parameter) in self._dictionaries and self._renormalise == "after_step"
        over_blocks(loops.adam, len(rows), _ROWS, *arrays, dots_C, *map(np.float32, numbers), last)


def _is_plain(parameter: nn.Parameter) -> bool:
    assert parameter.grad is not None
    return all(
        t.device.type == "cpu" and t.dtype == torch.float32 for t in (parameter, parameter.grad)
    )


def _as_rows(tensor: Tensor | None) -> np.ndarray:
    """[C, D], or one row; a view, since the update is in place."""
    assert tensor is not None
    assert tensor.is_contiguous()
    array = tensor.detach().numpy()
    return array if array.ndim == 2 else array.reshape(1, -1)
