"""How much of a label a few concepts carry: k-sparse logistic probes; knows no dictionary.

The concepts of a label are those most correlated with it on the training rows. A balanced
logistic regression on 1, 5 or 16 of them is fitted on those rows and scored on held-out ones.
Nothing is tuned on the held-out rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from scipy.sparse import csc_array, csr_array
from scipy.special import expit
from scipy.stats import rankdata

from koine.types import ActsND

SIZES = (1, 5, 16)
"""Concepts a probe reads."""
MAX_LABELS = 64
"""Labels that are probed: the most frequent ones."""
MIN_TRAIN, MIN_TEST = 20, 5
"""A label needs as many rows with it, and as many without it, among the rows."""
PENALTY = 1e-2
"""L2 penalty of k-sparse probes, on features of unit variance and a mean loss."""
RAW_PENALTIES = (10.0, 1.0, 0.1)
"""What a probe on raw activations chooses from on the validation rows."""
NEWTON_STEPS = 12
BLOCK_ENTRIES = 2**23

LabelsNL = Bool[np.ndarray, "N L"]


class Coded(NamedTuple):
    """Rows as codes, with their labels."""

    codes: csr_array
    labels_NL: LabelsNL


class Labelled(NamedTuple):
    """Rows as activations, with their labels."""

    x_ND: ActsND
    labels_NL: LabelsNL


def probed_labels(train_NL: LabelsNL, test_ML: Bool[np.ndarray, "M L"]) -> Int64[np.ndarray, "P"]:
    """The labels with enough rows on either side, the most frequent first."""
    enough_L = np.ones(train_NL.shape[1], bool)
    for labels_NL, least in ((train_NL, MIN_TRAIN), (test_ML, MIN_TEST)):
        with_L = labels_NL.sum(axis=0)
        enough_L &= (with_L >= least) & (len(labels_NL) - with_L >= least)
    wanted_P = np.flatnonzero(enough_L)
    order_P = np.argsort(-train_NL.sum(axis=0)[wanted_P], kind="stable")
    return wanted_P[order_P][:MAX_LABELS].astype(np.int64)


def sparse_probes(train: Coded, test: Coded) -> dict[str, Any] | None:
    """`k1`, `k5`, `k16`: {"balanced_accuracy", "auc"}, means over `labels` labels; else None."""
    labels_P = probed_labels(train.labels_NL, test.labels_NL)
    if len(labels_P) == 0:
        return None
    y_NP, truth_NP = train.labels_NL[:, labels_P], test.labels_NL[:, labels_P]
    chosen_PK = candidates(train.codes, y_NP, max(SIZES))
    columns, held_out = csc_array(train.codes), csc_array(test.codes)
    found: dict[str, Any] = {"labels": len(labels_P)}
    for size in SIZES:
        scores_NP = np.empty(truth_NP.shape)
        block = max(1, BLOCK_ENTRIES // (len(y_NP) * size))
        for start in range(0, len(labels_P), block):
            here = slice(start, start + block)
            x_PNK = _dense(columns, chosen_PK[here, :size])
            scale_PK = x_PNK.std(axis=1)
            scale_PK[scale_PK == 0] = 1.0
            weights_PK = newton(x_PNK / scale_PK[:, None], y_NP[:, here].T)
            test_PNK = _dense(held_out, chosen_PK[here, :size]) / scale_PK[:, None]
            scores_NP[:, here] = _scores(test_PNK, weights_PK).T
        found[f"k{size}"] = _figures(scores_NP, truth_NP)
    return found


def candidates(x: csr_array, y_NP: LabelsNL, count: int) -> Int64[np.ndarray, "P K"]:
    """The concepts most correlated with each label, by absolute value, strongest first."""
    rows = len(y_NP)
    x = csr_array(x.astype(np.float64))
    mean_C = np.asarray(x.sum(axis=0)).ravel() / rows
    variance_C = np.asarray(x.power(2).sum(axis=0)).ravel() / rows - mean_C**2
    covariance_CP = np.asarray(x.T @ y_NP.astype(np.float64)) / rows
    covariance_CP -= mean_C[:, None] * y_NP.mean(axis=0)
    deviation_C = np.sqrt(np.maximum(variance_C, 0))
    alive_C = deviation_C > 1e-12
    strength_CP = np.abs(covariance_CP) / np.where(alive_C, deviation_C, 1.0)[:, None]
    strength_CP[~alive_C] = -1.0
    return np.argsort(-strength_CP, axis=0, kind="stable")[:count].T.astype(np.int64)


def newton(
    x_PNK: Float64[np.ndarray, "P N K"], y_PN: Bool[np.ndarray, "P N"]
) -> Float64[np.ndarray, "P K1"]:
    """Weights of P balanced, L2-penalised logistic regressions at once, the intercept last."""
    x_PNK = np.concatenate([x_PNK, np.ones((*x_PNK.shape[:2], 1))], axis=2)
    weight_PN = balance(y_PN.T).T
    penalty_K = np.append(np.full(x_PNK.shape[2] - 1, PENALTY), 1e-6)
    beta_PK = np.zeros((len(x_PNK), x_PNK.shape[2]))
    loss_P = _loss(x_PNK, y_PN, weight_PN, penalty_K, beta_PK)
    for _ in range(NEWTON_STEPS):
        p_PN = expit(_logits(x_PNK, beta_PK))
        error_PN = weight_PN * (p_PN - y_PN)
        slope_PK = (error_PN[:, None] @ x_PNK)[:, 0] + penalty_K * beta_PK
        curve_PN = weight_PN * p_PN * (1 - p_PN)
        bend_PKK = np.matmul((x_PNK * curve_PN[:, :, None]).transpose(0, 2, 1), x_PNK)
        bend_PKK += np.diag(penalty_K)
        step_PK = np.linalg.solve(bend_PKK, slope_PK[:, :, None])[:, :, 0]
        for _ in range(8):  # halve the steps that overshoot, until every loss falls
            tried_P = _loss(x_PNK, y_PN, weight_PN, penalty_K, beta_PK - step_PK)
            worse_P = tried_P > loss_P + 1e-12
            if not worse_P.any():
                break
            step_PK = np.where(worse_P[:, None], step_PK / 2, step_PK)
        step_PK = np.where((tried_P > loss_P + 1e-12)[:, None], 0.0, step_PK)
        beta_PK -= step_PK
        loss_P = _loss(x_PNK, y_PN, weight_PN, penalty_K, beta_PK)
        if np.abs(step_PK).max() < 1e-6:
            break
    return beta_PK


def _loss(
    x_PNK: np.ndarray,
    y_PN: np.ndarray,
    weight_PN: np.ndarray,
    penalty_K: np.ndarray,
    beta_PK: np.ndarray,
) -> Float64[np.ndarray, "P"]:
    logits_PN = _logits(x_PNK, beta_PK)
    lost_PN = np.logaddexp(0, logits_PN) - y_PN * logits_PN
    return (weight_PN * lost_PN).sum(axis=1) + (penalty_K * beta_PK**2).sum(axis=1) / 2


def raw_probe(train: Labelled, val: Labelled, test: Labelled) -> dict[str, Any] | None:
    """A probe on all dimensions of raw activations: what the encoder itself carries.

    Its penalty is the one with the best mean AUC on the validation rows.
    """
    labels_P = probed_labels(train.labels_NL, test.labels_NL)
    if len(labels_P) == 0:
        return None
    mean_D, scale_D = train.x_ND.mean(axis=0), train.x_ND.std(axis=0)
    scale_D[scale_D < 1e-9] = 1.0
    x_ND, val_ND, test_ND = (
        ((each.x_ND - mean_D) / scale_D).astype(np.float32) for each in (train, val, test)
    )
    y_NP, truth_NP = train.labels_NL[:, labels_P], test.labels_NL[:, labels_P]
    val_NP = val.labels_NL[:, labels_P]
    both_P = val_NP.any(axis=0) & ~val_NP.all(axis=0)
    tried, beta_PD = {}, np.zeros((len(labels_P), x_ND.shape[1] + 1))
    for penalty in RAW_PENALTIES if both_P.any() else (RAW_PENALTIES[1],):
        beta_PD = _logistic(x_ND, y_NP, penalty, beta_PD)
        quality = auc(_linear(val_ND, beta_PD), val_NP)[both_P].mean() if both_P.any() else 0
        tried[float(quality)] = (penalty, _linear(test_ND, beta_PD))
    penalty, scores_NP = tried[max(tried)]
    return {"labels": len(labels_P), "penalty": penalty, **_figures(scores_NP, truth_NP)}


def _logistic(
    x_ND: Float32[np.ndarray, "N D"],
    y_NP: LabelsNL,
    penalty: float,
    start_PD: Float64[np.ndarray, "P D1"],
) -> Float64[np.ndarray, "P D1"]:
    """P balanced logistic regressions, the intercept last, by L-BFGS on their summed loss."""
    weight_NP = balance(y_NP).astype(np.float32)

    x, y = torch.from_numpy(x_ND), torch.from_numpy(y_NP.astype(np.float32))
    weight = torch.from_numpy(weight_NP)
    beta = torch.from_numpy(start_PD.astype(np.float32)).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [beta], max_iter=60, tolerance_change=1e-7, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        logits = x @ beta[:, :-1].T + beta[:, -1]
        lost = (weight * (torch.nn.functional.softplus(logits) - y * logits)).sum()
        lost = lost + penalty / 2 * beta[:, :-1].square().sum()
        lost.backward()
        return lost

    optimizer.step(loss)  # pyright: ignore[reportArgumentType]
    return beta.detach().numpy().astype(np.float64)


def _linear(x_ND: np.ndarray, beta_PD: np.ndarray) -> Float32[np.ndarray, "N P"]:
    beta_PD = beta_PD.astype(np.float32)
    return x_ND @ beta_PD[:, :-1].T + beta_PD[:, -1]


def balance(y_NP: LabelsNL) -> Float64[np.ndarray, "N P"]:
    """Weights that sum to ½ over the rows with a label and to ½ over those without."""
    with_P = y_NP.sum(axis=0)
    return np.where(y_NP, 0.5 / with_P, 0.5 / (len(y_NP) - with_P))


def auc(scores_NP: Float[np.ndarray, "N P"], truth_NP: LabelsNL) -> Float64[np.ndarray, "P"]:
    """Area under the ROC curve, ties counting half; NaN where only one class is there."""
    ranks_NP = rankdata(scores_NP, axis=0)
    with_P = truth_NP.sum(axis=0)
    wins_P = (ranks_NP * truth_NP).sum(axis=0) - with_P * (with_P + 1) / 2
    pairs_P = with_P * (len(truth_NP) - with_P)
    return np.divide(wins_P, pairs_P, out=np.full(len(wins_P), np.nan), where=pairs_P > 0)


def _figures(scores_NP: np.ndarray, truth_NP: LabelsNL) -> dict[str, float]:
    guess_NP = scores_NP > 0
    hit_P = (guess_NP & truth_NP).sum(axis=0) / truth_NP.sum(axis=0)
    passed_P = (~guess_NP & ~truth_NP).sum(axis=0) / (~truth_NP).sum(axis=0)
    return {
        "balanced_accuracy": float((hit_P + passed_P).mean() / 2),
        "auc": float(auc(scores_NP, truth_NP).mean()),
    }


def _dense(columns: csc_array, chosen_PK: np.ndarray) -> Float64[np.ndarray, "P N K"]:
    return np.stack([columns[:, chosen_K].toarray() for chosen_K in chosen_PK]).astype(np.float64)


def _scores(x_PNK: np.ndarray, weights_PK: np.ndarray) -> Float64[np.ndarray, "P N"]:
    return _logits(x_PNK, weights_PK[:, :-1]) + weights_PK[:, -1:]


def _logits(x_PNK: np.ndarray, weights_PK: np.ndarray) -> Float64[np.ndarray, "P N"]:
    return (x_PNK @ weights_PK[:, :, None])[:, :, 0]
