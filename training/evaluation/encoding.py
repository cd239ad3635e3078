"""Encodes rows of a store in both modes, batch by batch; knows no metric."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64
from scipy.sparse import csr_array
from torch import Tensor, nn

from koine.types import ActsND, Mode, PresentNS
from training.activations import ActivationStore
from training.evaluation.codes import sparse
from training.model import ModelConfig, TopK
from training.unit import unit

MODES: tuple[Mode, ...] = ("joint", "independent")
DENSE_BUDGET = 2**23
"""Entries of the largest dense batch × concepts array: 32 MiB in float32."""


@runtime_checkable
class Dictionary(Protocol):
    """What measuring asks of a dictionary; `AlignedDictionary` and matched baselines have it."""

    config: ModelConfig

    @property
    def streams(self) -> tuple[str, ...]:
        """Stream names in the order of `present_NS`'s columns."""
        ...

    def encode(
        self, acts: dict[str, Tensor], mode: Mode, present_NS: Tensor | None = None
    ) -> dict[str, TopK]:
        """Codes of each given stream, from raw activations."""
        ...

    def decode(self, name: str, codes: TopK) -> Tensor:
        """Unit-norm activations of a stream that the codes of any stream stand for."""
        ...


def device_of(model: Dictionary) -> torch.device:
    """Where a dictionary's weights lie."""
    assert isinstance(model, nn.Module)
    return next(model.parameters()).device


class Encoded(NamedTuple):
    """A batch of rows as every metric reads it."""

    rows_N: Int64[np.ndarray, "N"]
    """Row numbers in the store."""
    present_NS: PresentNS
    """Which streams the rows have, in the dictionary's stream order."""
    units: dict[str, ActsND]
    """Unit-norm activations; zeros where absent."""
    codes: dict[Mode, dict[str, TopK]]
    """Codes by mode and stream, as tensors, for decoding."""
    sparse: dict[Mode, dict[str, csr_array]]
    """The same codes, sparse."""


def batch_rows(num_concepts: int) -> int:
    """Rows that are encoded at once, so that memory is bounded whatever the dictionary's size."""
    return max(32, min(2048, DENSE_BUDGET // num_concepts))


def encoded(
    model: Dictionary,
    store: ActivationStore,
    rows_N: Int64[np.ndarray, "N"],
    size: int | None = None,
    modes: tuple[Mode, ...] = MODES,
) -> Iterator[Encoded]:
    """Encode `rows_N` in their order, `size` at a time; a row's first caption stands for it."""
    device = device_of(model)
    names = [stream.name for stream in store.streams]
    columns = [names.index(name) for name in model.streams]
    size = size or batch_rows(model.config.num_concepts)
    for start in range(0, len(rows_N), size):
        rows_B = rows_N[start : start + size]
        batch = store.gather(rows_B, None)
        present_NS = np.ascontiguousarray(batch.present_NS[:, columns])
        acts = {name: torch.as_tensor(batch.acts[name], device=device) for name in model.streams}
        present = torch.as_tensor(present_NS, device=device)
        codes: dict[Mode, dict[str, TopK]] = {
            mode: model.encode(acts, mode, present) for mode in modes
        }
        yield Encoded(
            rows_N=rows_B,
            present_NS=present_NS,
            units={name: unit(acts_ND).cpu().numpy() for name, acts_ND in acts.items()},
            codes=codes,
            sparse={
                mode: {
                    name: _sparse(topk, model.config.num_concepts) for name, topk in each.items()
                }
                for mode, each in codes.items()
            },
        )


def _sparse(topk: TopK, num_concepts: int) -> csr_array:
    return sparse(topk.indices_NK.cpu().numpy(), topk.values_NK.cpu().numpy(), num_concepts)
