"""How good an encoder is on held-out scenes: linear probes and retrieval."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from scipy.stats import rankdata
from torch import Tensor
from torch.nn import functional

from training.demo.vocabulary import GROUPS, LABELS


class Retrieval(NamedTuple):
    """Shares of images whose own text is among the 1 or 10 nearest."""

    r1: float
    r10: float


def activations(encode: Callable[[Tensor], Tensor], inputs: Tensor, batch: int = 256) -> Tensor:
    """`encode` over `inputs` in batches, float32, without gradient."""
    with torch.inference_mode():
        return torch.cat([encode(part).float() for part in inputs.split(batch)]).clone()


def retrieval(images_ND: Tensor, texts_ND: Tensor) -> Retrieval:
    """From each image to its own text by cosine."""
    scores_NN = functional.normalize(images_ND, dim=-1) @ functional.normalize(texts_ND, dim=-1).T
    rank_N = (scores_NN > scores_NN.diagonal()[:, None]).sum(1)
    return Retrieval((rank_N < 1).float().mean().item(), (rank_N < 10).float().mean().item())


def probe(acts_ND: Tensor, labels_NL: Tensor, train: int) -> dict[str, float]:
    """Mean area under the ROC curve of ridge probes by group of labels and over `all` labels.

    Fitted on the first `train` rows, measured on the others; labels that are constant there are
    left out.
    """
    fit_ND, rest_ND = acts_ND[:train].double(), acts_ND[train:].double()
    mean_D, std_D = fit_ND.mean(0), fit_ND.std(0) + 1e-6
    fit_ND, rest_ND = (fit_ND - mean_D) / std_D, (rest_ND - mean_D) / std_D
    target_NL = labels_NL[:train].double()
    penalty_DD = 1e-3 * train * torch.eye(fit_ND.shape[1], dtype=torch.float64)
    weights_DL = torch.linalg.solve(
        fit_ND.T @ fit_ND + penalty_DD, fit_ND.T @ (target_NL - target_NL.mean(0))
    )
    scores_NL, true_NL = rest_ND @ weights_DL, labels_NL[train:]
    areas = {
        label: area(scores_NL[:, column], true_NL[:, column])
        for column, label in enumerate(LABELS)
        if 0 < int(true_NL[:, column].sum()) < len(true_NL)
    }
    groups = {
        name: [areas[label] for label in group if label in areas] for name, group in GROUPS.items()
    }
    means = {name: sum(found) / len(found) for name, found in groups.items() if found}
    return means | {"all": sum(areas.values()) / len(areas)}


def area(scores_N: Tensor, true_N: Tensor) -> float:
    """Area under the ROC curve: the chance that a true item scores above a false one."""
    ranks_N = rankdata(scores_N.numpy())
    hits = int(true_N.sum())
    misses = len(true_N) - hits
    return float((ranks_N[true_N.numpy()].sum() - hits * (hits + 1) / 2) / (hits * misses))
