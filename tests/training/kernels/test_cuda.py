"""The Triton kernels, run by Triton's interpreter, against the CPU backend.

In a process of its own: the interpreter is chosen by the environment when Triton is imported.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from training.kernels import cpu


def compare(supports: int, sources: int, items: int, width: int, concepts: int, k: int) -> None:
    """All kernels of both backends on one random problem."""
    from training.kernels import cuda

    torch.manual_seed(0)
    rows = [torch.randperm(concepts)[:k] for _ in range(supports * items)]
    indices_UNK = torch.stack(rows).view(supports, items, k)
    z_ND, bias_D = torch.randn(items, width), torch.randn(width)
    weight_CD, bias_C = torch.randn(concepts, width), torch.randn(concepts)
    values_USNK = torch.randn(supports, sources, items, k).relu()
    found = []
    for backend in (cpu, cuda):
        pairs = backend.sort_pairs(indices_UNK.flatten(), concepts)
        first = backend.sort_pairs(indices_UNK[0].flatten(), concepts)
        at_NK = backend.values_forward(z_ND, bias_D, weight_CD, bias_C, indices_UNK[0])
        grads = backend.values_backward(z_ND, bias_D, values_USNK[0, 0], *first)
        out = backend.reconstruct_forward(values_USNK, indices_UNK, weight_CD, bias_D, z_ND)
        twice_USN = torch.linspace(-1, 1, out[0].numel()).view(out[0].shape)
        back = backend.reconstruct_backward(values_USNK, twice_USN, out[1], weight_CD, *pairs)
        steps = (2, 0.3 / width, 0.1)
        moved_NK = backend.corrected(at_NK, indices_UNK[0], weight_CD, bias_D, z_ND, *steps)
        found.append([*pairs, at_NK, moved_NK, *grads, *out, *back])
    for one, other in zip(*found, strict=True):
        # float32 sums of at most 3 · 20 products of unit normals, in another order
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed: it is on Linux"
)
def test_triton_agrees_with_the_cpu() -> None:
    code = f"import {__name__} as t; t.compare(1, 3, 5, 13, 11, 4); t.compare(2, 1, 4, 1030, 9, 3)"
    env = os.environ | {"TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
