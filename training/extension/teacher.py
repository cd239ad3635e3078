"""What the frozen streams of a dictionary say of a batch of pairs; fits nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from training.activations.store import ActivationStore
from training.kernels.sparse import Support
from training.model import AlignedDictionary, TopK, select


class Taught(NamedTuple):
    """A batch of pairs and what the existing streams make of it."""

    z_ND: Float[Tensor, "N D"]
    """The new stream's normalised activations."""
    others: dict[str, Float[Tensor, "N D"]]
    """The existing streams', normalised; rows of absent ones stand for nothing."""
    present_NS: Bool[Tensor, "N S"]
    """Which items have which existing stream, columns as `others`."""
    own: dict[str, TopK]
    """Codes of each existing stream that selects alone; zeros where it is absent."""
    joint_NK: Int64[Tensor, "N K"]
    """What an item's existing streams choose together."""
    joint_values_NK: Float[Tensor, "N K"]
    """Mean of their codes there."""


@torch.no_grad()
def taught(
    model: AlignedDictionary,
    store: ActivationStore,
    stream: str,
    rows_N: Int64[np.ndarray, "N"],
    draws_N: np.ndarray | None = None,
) -> Taught:
    """Reads and encodes the pairs `rows_N`; `store` shows the model's streams."""
    batch = store.gather(rows_N, draws_N)
    others = existing(model, stream)
    columns = [[spec.name for spec in store.streams].index(name) for name in others]
    present_NS = torch.from_numpy(np.ascontiguousarray(batch.present_NS[:, columns]))
    z = {n: model.of(n).normalise(torch.from_numpy(batch.acts[n])).float() for n in model.streams}
    scores = {name: model.scores(name, z[name]) for name in others}
    joint_NK = select(list(scores.values()), model.config.k, present_NS)
    joint = Support.of(joint_NK[None], model.config.num_concepts)
    own, sums_NK = {}, torch.zeros(joint_NK.shape)
    for column, name in enumerate(others):
        here_N1 = present_NS[:, column, None]
        own_NK = select([scores[name]], model.config.k)
        at = Support.of(own_NK[None], model.config.num_concepts)
        own[name] = TopK(own_NK, model.codes_at(name, z[name], at) * here_N1)
        sums_NK += model.codes_at(name, z[name], joint) * here_N1
    count_N1 = present_NS.sum(1, keepdim=True).clamp_min(1)
    return Taught(
        z[stream], {n: z[n] for n in others}, present_NS, own, joint_NK, sums_NK / count_N1
    )


def existing(model: AlignedDictionary, stream: str) -> Sequence[str]:
    """The streams that were there before."""
    return [name for name in model.streams if name != stream]
