"""A training step by dense products and torch's optimizers, as research code writes it.

All scores, all codes and all softmaxes are [N, C], and S² products decode. What is minimised is
what the trainer minimises where every item has every stream and nothing is dead. Knows nothing of
time and memory.
"""

from __future__ import annotations

import copy
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, softplus

from training.alignment import balance, seen
from training.configs import SelectorConfig
from training.feed import StepBatch
from training.model import AlignedDictionary
from training.parallel import ALONE
from training.trainer import Trainer, selector_optimizer
from training.unit import unit


class Dense:
    """The steps that a trainer is about to take, from a copy of its weights."""

    def __init__(self, trainer: Trainer) -> None:
        self.config, self.count = trainer.config, trainer.step
        self.model = copy.deepcopy(trainer.model)
        adam = torch.optim.Adam(self.model.stream.parameters(), lr=self.config.lr)
        other = selector_optimizer(self.model)
        self.optimizers = [adam] if other is None else [adam, other]

    def step(self, batch: StepBatch) -> float:
        """The loss of one step."""
        z = {name: self.model.of(name).normalise(x) for name, x in batch.acts.items()}
        selector = self.config.selector
        loss = self._by_pre_codes(z, batch) if selector is None else self._aligned(z, batch)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._update()
        self.count += 1
        return loss.item()

    @torch.no_grad()
    def _update(self) -> None:
        dictionaries = [self.model.of(name).dictionary_CD for name in self.model.streams]
        for rows_CD in dictionaries:
            assert rows_CD.grad is not None
            rows_CD.grad -= (rows_CD.grad * rows_CD).sum(1, keepdim=True) * rows_CD
        nn.utils.clip_grad_norm_(self.model.stream.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        for rows_CD in dictionaries:
            rows_CD.copy_(nn.functional.normalize(rows_CD, dim=1))

    def _by_pre_codes(self, z: dict[str, Tensor], batch: StepBatch) -> Tensor:
        pre = {name: self.model.of(name).pre_codes(z_ND) for name, z_ND in z.items()}
        masked = [p * batch.selecting_NS[:, i, None] for i, p in enumerate(pre.values())]
        support_NK = torch.stack(masked).sum(0).topk(self.config.k, dim=1).indices
        codes = {
            name: torch.zeros_like(p).scatter(1, support_NK, p.gather(1, support_NK).relu())
            for name, p in pre.items()
        }
        return _reconstruction(self.model, z, codes)

    def _aligned(self, z: dict[str, Tensor], batch: StepBatch) -> Tensor:
        model, config = self.model, self.config.selector
        assert config is not None
        pre = {name: model.of(name).pre_codes(z_ND) for name, z_ND in z.items()}
        scores = {name: _scores(model, name, z[name], pre[name]) for name in z}
        own = {name: s_NC.topk(self.config.k, dim=1).indices for name, s_NC in scores.items()}
        joint_NK = torch.stack(list(scores.values())).sum(0).topk(self.config.k, dim=1).indices
        alone_N = (batch.selecting_NS != batch.present_NS).any(1)
        codes = {}
        for name, own_NK in own.items():
            support_NK = torch.where(alone_N[:, None], own_NK, joint_NK)
            chosen_NC = torch.zeros_like(pre[name]).scatter(1, support_NK, 1.0)
            codes[name] = _refined(model, name, z[name], pre[name], chosen_NC, config)
        balance(model, own, batch.present_NS, ALONE)
        components = seen(model, z, self.config.seed, self.count, ALONE)
        maps = {name: model.selector_of(name)(seen_NP) for name, seen_NP in components.items()}
        first_L = alone_N.nonzero()[: config.code_contrast_items, 0]
        rows = [unit(codes_NC[first_L]) for codes_NC in codes.values()]
        return (
            _reconstruction(model, z, codes)
            + config.contrast_weight * _contrast(list(maps.values()), config.contrast_temperature)
            + config.teach_weight * _teach(model, maps, joint_NK)
            + config.code_contrast_weight * _contrast(rows, config.code_contrast_temperature)
        )


@torch.no_grad()
def _scores(model: AlignedDictionary, name: str, z_ND: Tensor, pre_NC: Tensor) -> Tensor:
    selector = model.selector_of(name)
    places_NR = selector(selector.components(z_ND))
    shared_NC = selector.sharpness * places_NR @ unit(model.prototypes_CR).T
    return shared_NC + selector.pre_code_weight * pre_NC + selector.score_bias_C


def _refined(
    model: AlignedDictionary,
    name: str,
    z_ND: Tensor,
    pre_NC: Tensor,
    chosen_NC: Tensor,
    config: SelectorConfig,
) -> Tensor:
    stream = model.of(name)
    for _ in range(config.refinements):
        with torch.no_grad():
            codes_NC = softplus(pre_NC, beta=1 / config.softness) * chosen_NC
            residual_ND = codes_NC @ stream.dictionary_CD + stream.pre_bias_D - z_ND
            step_NC = config.refine_rate * residual_ND @ stream.dictionary_CD.T
        pre_NC = pre_NC - step_NC
    return softplus(pre_NC, beta=1 / config.softness) * chosen_NC


def _reconstruction(
    model: AlignedDictionary, z: dict[str, Tensor], codes: dict[str, Tensor]
) -> Tensor:
    terms: dict[bool, list[Tensor]] = {True: [], False: []}
    for target, z_ND in z.items():
        stream = model.of(target)
        for source, codes_NC in codes.items():
            recon_ND = codes_NC @ stream.dictionary_CD + stream.pre_bias_D
            error = (recon_ND - z_ND).square().sum(1).mean()
            terms[source == target].append(error)
    return sum(torch.stack(t).mean() for t in terms.values() if t)  # pyright: ignore[reportReturnType]


def _contrast(rows: list[Tensor], temperature: float) -> Tensor:
    terms = []
    for one_ND, other_ND in combinations(rows, 2):
        logits_NN = one_ND @ other_ND.T / temperature
        own_N = torch.arange(len(logits_NN))
        terms.append((cross_entropy(logits_NN, own_N) + cross_entropy(logits_NN.T, own_N)) / 2)
    return torch.stack(terms).mean()


def _teach(model: AlignedDictionary, maps: dict[str, Tensor], joint_NK: Tensor) -> Tensor:
    terms = []
    for name, map_NR in maps.items():
        logits_NC = map_NR * model.selector_of(name).sharpness @ unit(model.prototypes_CR).T
        terms.append(-log_softmax(logits_NC, dim=1).gather(1, joint_NK).mean())
    return torch.stack(terms).mean()
