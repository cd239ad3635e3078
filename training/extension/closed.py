"""A new stream in closed form: ridge regressions onto what the frozen streams say of each pair.

With z the new stream's normalised activations, targets are means over an item's existing streams:
    map of z → their places in the shared space, before these are made unit (where there is one),
        of all existing streams or of those of its modality
    encoder of z → their pre-codes;  decoder of their codes → z
Where there is a selector, the new stream chooses by its place alone: regressed pre-codes of so few
pairs add noise to scores. Takes no step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from training.activations.store import ActivationStore
from training.extension.config import ExtendConfig
from training.extension.judge import Judge
from training.extension.teacher import Taught, existing, taught
from training.model import AlignedDictionary, TopK, dense
from training.unit import UNIT_NORM_EPS

CHUNK_ROWS = 1024
_CAPTIONS = 12  # beside the draws of schedule.py and pairs.py


class Moments(NamedTuple):
    """Means and products of inputs x and targets y over rows, in float64."""

    mean_X: Tensor
    mean_Y: Tensor
    cov_XX: Tensor
    cov_XY: Tensor

    def ridge(self, penalty: float) -> tuple[Float[Tensor, "Y X"], Float[Tensor, "Y"]]:
        """Weights and intercept of y ≈ x · weightᵀ + intercept; the intercept is not penalised."""
        width = len(self.mean_X)
        added = penalty * self.cov_XX.diagonal().mean().clamp_min(1e-12)
        regular_XX = self.cov_XX + added * torch.eye(width, dtype=torch.float64)
        weight_XY = torch.linalg.solve(regular_XX, self.cov_XY)
        return weight_XY.T.float(), (self.mean_Y - self.mean_X @ weight_XY).float()


def moments(rows: Iterator[tuple[Tensor, Tensor]]) -> Moments:
    """Of all rows, chunk by chunk."""
    count, sums = 0, None
    for x_NX, y_NY in rows:
        x_NX, y_NY = x_NX.double(), y_NY.double()
        part = (x_NX.sum(0), y_NY.sum(0), x_NX.T @ x_NX, x_NX.T @ y_NY)
        sums = part if sums is None else tuple(a + b for a, b in zip(sums, part, strict=True))
        count += len(x_NX)
    assert sums is not None
    mean_X, mean_Y, xx, xy = (total / count for total in sums)
    return Moments(
        mean_X, mean_Y, xx - torch.outer(mean_X, mean_X), xy - torch.outer(mean_X, mean_Y)
    )


@torch.no_grad()
def set_statistics(
    model: AlignedDictionary, store: ActivationStore, stream: str, rows_F: Int64[np.ndarray, "F"]
) -> None:
    """Mean, scale and components of the new stream, from the pairs that are fitted on."""
    new = model.of(stream)
    acts_FD = torch.from_numpy(store.gather(rows_F).acts[stream]).double()
    unit_FD = acts_FD / (acts_FD.norm(dim=1, keepdim=True) + UNIT_NORM_EPS)
    new.mean_D.copy_(unit_FD.mean(0))
    centred_FD = unit_FD - unit_FD.mean(0)
    variance = centred_FD.square().sum(1).mean()
    others = [model.of(name) for name in existing(model, stream)]
    if any(bool(other.shift_D.any()) for other in others):  # as the existing ones are
        new.shift_D.copy_(new.mean_D)
        new.scale.copy_(variance.rsqrt())


@torch.no_grad()
def fit_closed(
    model: AlignedDictionary,
    store: ActivationStore,
    config: ExtendConfig,
    rows_F: Int64[np.ndarray, "F"],
    judge: Judge,
) -> dict[str, float]:
    """Sets the new stream's weights; the penalties, chosen on the pairs kept out."""
    stream = config.stream
    chunks = list(_chunks(model, store, config, rows_F))
    decoding = moments((_joint_codes(t, model.config.num_concepts), t.z_ND) for t in chunks)
    encoding = moments((t.z_ND, _mean_pre_codes(model, t)) for t in chunks)
    chosen: dict[str, float] = {}
    if model.config.selector is not None:
        _set_scores(model, stream)
        chosen |= _fit_map(model, store, config, chunks, judge)
    _set_decoder(model, stream, decoding, config.penalties[0])
    chosen["encoder"] = _best(
        config.penalties,
        lambda penalty: _set_encoder(model, stream, encoding, penalty),
        lambda: judge.look(model).value,
    )

    def set_decoder(penalty: float) -> None:
        _set_decoder(model, stream, decoding, penalty)
        _set_encoder(model, stream, encoding, chosen["encoder"])

    look = judge.look
    chosen["decoder"] = _best(config.penalties, set_decoder, lambda: look(model).value)
    return chosen


def _fit_map(
    model: AlignedDictionary,
    store: ActivationStore,
    config: ExtendConfig,
    chunks: Sequence[Taught],
    judge: Judge,
) -> dict[str, float]:
    """Onto the places of all existing streams, or of those of the new one's modality alone."""
    stream = config.stream
    modality = {spec.name: spec.modality for spec in store.streams}
    others = existing(model, stream)
    alike = [name for name in others if modality[name] == modality[stream]]
    found: list[tuple[float, float, Moments]] = []
    for names in (others, alike) if alike and len(alike) < len(others) else (others,):
        places = moments(_places(model, t, names) for t in chunks)
        penalty = _best(
            config.penalties,
            lambda penalty, places=places: _set_map(model, stream, places, penalty),
            lambda: judge.look(model).agreement,
        )
        found.append((judge.look(model).agreement, penalty, places))
    best = max(range(len(found)), key=lambda index: found[index][0])
    _, penalty, places = found[best]
    _set_map(model, stream, places, penalty)
    return {"map": penalty, "map_streams": len((others, alike)[best])}


def _best(
    penalties: Sequence[float], put: Callable[[float], None], value: Callable[[], float]
) -> float:
    """The penalty of the largest value; it is put last."""
    found: dict[float, float] = {}
    for penalty in penalties:
        put(penalty)
        found[penalty] = value()
    best = max(found, key=found.__getitem__)
    put(best)
    return best


def _set_decoder(model: AlignedDictionary, stream: str, m: Moments, penalty: float) -> None:
    weight_DC, bias_D = m.ridge(penalty)
    model.of(stream).dictionary_CD.copy_(weight_DC.T)
    model.of(stream).pre_bias_D.copy_(bias_D)


def _set_encoder(model: AlignedDictionary, stream: str, m: Moments, penalty: float) -> None:
    """After the decoder, whose bias the encoder takes off its input."""
    new, (weight_CD, bias_C) = model.of(stream), m.ridge(penalty)
    new.encoder_CD.copy_(weight_CD)
    new.latent_bias_C.copy_(bias_C + new.pre_bias_D @ weight_CD.T)


def _set_scores(model: AlignedDictionary, stream: str) -> None:
    """Sharpness and biases of the scores are the existing streams' means."""
    selector = model.selector_of(stream)
    each = [model.selector_of(name) for name in existing(model, stream)]
    selector.sharpness.copy_(torch.stack([s.sharpness for s in each]).mean())
    selector.score_bias_C.copy_(torch.stack([s.score_bias_C for s in each]).mean(0))
    selector.rate_C.copy_(torch.stack([s.rate_C for s in each]).mean(0))
    selector.pre_code_weight.zero_()


def _set_map(model: AlignedDictionary, stream: str, m: Moments, penalty: float) -> None:
    """The map of all of z, as white components and a map of those: weight = map · basis."""
    selector, (weight_RD, bias_R) = model.selector_of(stream), m.ridge(penalty)
    weight_RD = weight_RD.double()
    values_R, turn_RR = torch.linalg.eigh(weight_RD @ m.cov_XX @ weight_RD.T)
    count = min(len(selector.basis_PD), len(values_R))
    spread_M = values_R[-count:].clamp_min(1e-12).sqrt()
    turn_RM = turn_RR[:, -count:]
    selector.basis_PD.zero_()
    selector.map_RP.zero_()
    selector.basis_PD[:count] = (turn_RM / spread_M).T @ weight_RD
    selector.map_RP[:, :count] = turn_RM * spread_M
    selector.map_bias_R.copy_(bias_R)


def _chunks(
    model: AlignedDictionary,
    store: ActivationStore,
    config: ExtendConfig,
    rows_F: Int64[np.ndarray, "F"],
) -> Iterator[Taught]:
    rng = np.random.default_rng((config.seed, _CAPTIONS))
    for start in range(0, len(rows_F), CHUNK_ROWS):
        part_N = rows_F[start : start + CHUNK_ROWS]
        yield taught(model, store, config.stream, part_N, rng.random(len(part_N)))


def _mean(parts: list[Tensor], present_NS: Tensor) -> Tensor:
    """Over the streams that an item has."""
    total = sum(x * present_NS[:, column, None] for column, x in enumerate(parts))
    assert isinstance(total, Tensor)
    return total / present_NS.sum(1, keepdim=True).clamp_min(1)


def _mean_pre_codes(model: AlignedDictionary, t: Taught) -> Float[Tensor, "N C"]:
    return _mean([model.of(n).pre_codes(z_ND) for n, z_ND in t.others.items()], t.present_NS)


def _places(
    model: AlignedDictionary, t: Taught, names: Sequence[str]
) -> tuple[Float[Tensor, "N D"], Float[Tensor, "N R"]]:
    """The pairs that have one of these streams, and their mean place before it is made unit."""
    columns = [list(t.others).index(name) for name in names]
    places: list[Tensor] = []
    for name in names:
        s = model.selector_of(name)
        places.append(functional.linear(s.components(t.others[name]), s.map_RP, s.map_bias_R))
    present_NS = t.present_NS[:, columns]
    here_N = present_NS.any(1)
    return t.z_ND[here_N], _mean(places, present_NS)[here_N]


def _joint_codes(t: Taught, num_concepts: int) -> Float[Tensor, "N C"]:
    return dense(TopK(t.joint_NK, t.joint_values_NK), num_concepts)
