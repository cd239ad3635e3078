"""Whitened principal components of the streams, which a selector's maps see; knows no training."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from training.activations.store import ActivationStore
from training.model import AlignedDictionary

MAX_ROWS = 32_768
"""Training rows that components are taken from, evenly spread."""
CHUNK_ROWS = 4096
SHRINKAGE = 0.1
"""Of the kept components' mean variance, added to each: rare directions are not blown up."""
_SEED = 0  # of the caption draws: which of them are taken does not depend on a run


@torch.no_grad()
def set_bases(model: AlignedDictionary, store: ActivationStore) -> None:
    """Every stream's `basis_PD` becomes that of its normalised training rows."""
    rows_R = store.split("train")
    rows_R = rows_R[:: max(1, len(rows_R) // MAX_ROWS)]
    columns = {stream.name: i for i, stream in enumerate(store.streams)}
    widths = {name: model.of(name).encoder_CD.shape[1] for name in model.streams}
    sums = {name: torch.zeros(d_in, dtype=torch.float64) for name, d_in in widths.items()}
    products = {n: torch.zeros(d_in, d_in, dtype=torch.float64) for n, d_in in widths.items()}
    counts = dict.fromkeys(widths, 0)
    rng = np.random.default_rng(_SEED)
    for start in range(0, len(rows_R), CHUNK_ROWS):
        chunk_N = rows_R[start : start + CHUNK_ROWS]
        batch = store.gather(chunk_N, rng.random(len(chunk_N)))
        for name in widths:
            acts_ND = batch.acts[name][batch.present_NS[:, columns[name]]]
            z_ND = model.of(name).normalise(torch.from_numpy(acts_ND)).double()
            sums[name] += z_ND.sum(0)
            products[name] += z_ND.T @ z_ND
            counts[name] += len(z_ND)
    for name in widths:
        mean_D = sums[name] / counts[name]
        covariance_DD = products[name] / counts[name] - torch.outer(mean_D, mean_D)
        basis_PD = model.selector_of(name).basis_PD
        basis_PD.copy_(whitened(covariance_DD, len(basis_PD)))


def whitened(
    covariance_DD: Float[Tensor, "D D"], components: int
) -> Float[Tensor, "{components} D"]:
    """The first principal directions v, each v / √(variance + shrinkage), by falling variance.

    Signs make the largest entry positive, so that they do not depend on the solver.
    """
    variance_D, vectors_DD = torch.linalg.eigh(covariance_DD)
    variance_P = variance_D.flip(0)[:components].clamp_min(0)
    vectors_PD = vectors_DD.T.flip(0)[:components]
    largest_P1 = vectors_PD.gather(1, vectors_PD.abs().argmax(1, keepdim=True))
    return (
        largest_P1.sign()
        * vectors_PD
        / (variance_P + SHRINKAGE * variance_P.mean()).sqrt()[:, None]
    )
