"""What makes streams that select alone agree: contrast, teaching, balance; knows no optimizer.

Contrast pulls the streams' maps (and codes) of one item together and different items apart
(InfoNCE, van den Oord et al. 2018). Teaching is self-distillation with clusters for targets (as in
SwAV, Caron et al. 2020, but the k concepts that an item's streams choose together): each stream's
softmax over concepts learns the joint support. Balance bounds every concept's rate in every stream
by a bias of its score, without a loss (as Wang et al. 2024, arXiv 2408.15664, for experts): that
keeps teaching from collapsing onto few concepts.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from training.activations.store import ActivationStore
from training.configs import SelectorConfig
from training.info_nce import mean_info_nce
from training.kernels.hiding import with_hidden
from training.kernels.sparse import SparseRows, inner_products
from training.model import AlignedDictionary, TopK
from training.parallel import Group
from training.unit import unit

_LOGITS_AT_ONCE, _LOGITS_ON_GPU = 1 << 20, 1 << 25
_FEWEST_ROWS = 64  # a product with fewer rows is bound by reading the prototypes
_RATE_MOMENTUM = 0.9
_RARE = 1e-4  # rate of what never fired, so that its logarithm is finite
_CHUNK_ROWS = 2048
_HIDDEN = 3  # beside the draws of schedule.py
_PROTOTYPE_NOISE = 0.02  # where there are fewer items than concepts, copies must differ


class Alignment(NamedTuple):
    """This worker's shares of the terms."""

    contrast: Tensor
    teach: Tensor
    code_contrast: Tensor

    def total(self, config: SelectorConfig) -> Tensor:
        """Their weighted sum."""
        return (
            config.contrast_weight * self.contrast
            + config.teach_weight * self.teach
            + config.code_contrast_weight * self.code_contrast
        )


def alignment(
    model: AlignedDictionary,
    components: dict[str, Float[Tensor, "N P"]],
    codes: dict[str, TopK],
    joint_NK: Int64[Tensor, "N K"],
    alone_N: Bool[Tensor, "N"],
    present_NS: Bool[Tensor, "N S"],
    teaches: bool,
    group: Group,
) -> Alignment:
    """Contrast, teaching and code contrast of a batch.

    `components` are what `seen` gave, `alone_N` marks codes chosen alone.
    """
    config = model.config.selector
    assert config is not None
    maps = {name: model.selector_of(name)(seen_NP) for name, seen_NP in components.items()}
    whole_NS = group.whole(present_NS.to(torch.uint8)).bool()
    zero = joint_NK.new_zeros((), dtype=torch.float32)
    contrast = _contrast(maps, whole_NS, config.contrast_temperature, group)
    teach = _teach(model, maps, joint_NK, present_NS, group) if teaches else zero
    if config.code_contrast_weight == 0:
        return Alignment(contrast, teach, zero)
    alone_N = group.whole(alone_N.to(torch.uint8))
    first_L = alone_N.argsort(descending=True, stable=True)[: config.code_contrast_items]
    rows = _codes_of(codes, first_L, model.config.num_concepts, group)
    both_LS = whole_NS[first_L] & alone_N[first_L, None].bool()
    products = [inner_products(one, other) for one, other in combinations(rows, 2)]
    code_contrast = mean_info_nce(products, _both(both_LS), config.code_contrast_temperature)
    return Alignment(contrast, teach, _share(code_contrast, group))


def seen(
    model: AlignedDictionary, z: dict[str, Tensor], seed: int, step: int, group: Group
) -> dict[str, Float[Tensor, "N P"]]:
    """The components that maps see in training: some are hidden.

    Draws are a function of seed, step and item, whichever worker has the item.
    """
    config = model.config.selector
    assert config is not None
    components = {name: model.selector_of(name).components(z_ND) for name, z_ND in z.items()}
    if config.dropout == 0:
        return components
    left = {}
    for column, (name, all_NP) in enumerate(components.items()):
        key = np.random.SeedSequence((seed, _HIDDEN, step, column)).generate_state(1)[0]
        first = group.part(len(all_NP) * group.size).start
        left[name] = with_hidden(all_NP, config.dropout, int(key), first)
    return left


def _contrast(
    rows: dict[str, Tensor], whole_NS: Tensor, temperature: float, group: Group
) -> Tensor:
    """Mean InfoNCE over the pairs of streams."""
    whole = [_gathered(own_ND, group) for own_ND in rows.values()]
    products = [one_ND @ other_ND.T for one_ND, other_ND in combinations(whole, 2)]
    return _share(mean_info_nce(products, _both(whole_NS), temperature), group)


def _both(whole_NS: Tensor) -> Tensor:
    """Whether an item has both streams, [N, P], in the order of `combinations`."""
    streams = whole_NS.shape[1]
    one_P, other_P = torch.triu_indices(streams, streams, 1, device=whole_NS.device)
    return whole_NS[:, one_P] & whole_NS[:, other_P]


def _gathered(own_ND: Tensor, group: Group) -> Tensor:
    """All workers' rows; gradients flow into this worker's."""
    if group.size == 1:
        return own_ND
    whole_ND = group.whole(own_ND.detach())
    whole_ND[group.part(len(whole_ND))] = own_ND
    return whole_ND


def _share(whole: Tensor, group: Group) -> Tensor:
    """This worker's share of a term that all compute, with the gradient of the whole term: each
    has that of its own rows only."""
    return whole - whole.detach() * (1 - 1 / group.size)


def _codes_of(
    codes: dict[str, TopK], items_L: Tensor, num_concepts: int, group: Group
) -> list[SparseRows]:
    """Unit-norm codes of some items of the whole batch."""
    rows = []
    for own in codes.values():
        values_LK = unit(_gathered(own.values_NK, group)[items_L])
        rows.append(SparseRows.of(values_LK, group.whole(own.indices_NK)[items_L], num_concepts))
    return rows


def _teach(
    model: AlignedDictionary,
    maps: dict[str, Tensor],
    joint_NK: Tensor,
    present_NS: Tensor,
    group: Group,
) -> Tensor:
    """Mean over streams and items of the cross-entropy between joint support and softmax."""
    prototypes_CR = unit(model.prototypes_CR)
    terms = []
    for column, (name, map_NR) in enumerate(maps.items()):
        taught_N = present_NS[:, column] & (present_NS.sum(1) > 1)
        count = group.sum(taught_N.sum()).clamp_min(1)
        logits_of_NR = map_NR * model.selector_of(name).sharpness
        weight_N = taught_N / count
        terms.append(SupportCrossEntropy.apply(logits_of_NR, prototypes_CR, joint_NK, weight_N))
    return torch.stack(terms).mean()


class SupportCrossEntropy(torch.autograd.Function):
    """Σ weight · (logsumexp(logits) - mean of logits at the support), logits = x · prototypesᵀ.

    Gradients are made on the way, piece by piece: no [N, C] outlives its piece.
    """

    @staticmethod
    def forward(ctx: Any, *args: Tensor) -> Tensor:
        """Inputs [N, R], prototypes [C, R], support [N, K], weights [N] → a scalar."""
        x_NR, prototypes_CR, support_NK, weight_N = args
        d_x_NR, d_prototypes_CR = torch.empty_like(x_NR), torch.zeros_like(prototypes_CR)
        loss = x_NR.new_zeros(())
        at_once = _LOGITS_AT_ONCE if x_NR.device.type == "cpu" else _LOGITS_ON_GPU
        rows, k = max(_FEWEST_ROWS, at_once // len(prototypes_CR)), support_NK.shape[1]
        for start in range(0, len(x_NR), rows):
            piece = slice(start, start + rows)
            x_MR, at_MK, weight_M = x_NR[piece], support_NK[piece], weight_N[piece]
            logits_MC = (x_MR @ prototypes_CR.T).float()
            taken_M, most_M1 = logits_MC.gather(1, at_MK).mean(1), logits_MC.amax(1, keepdim=True)
            odds_MC = logits_MC.sub_(most_M1).exp_()
            sum_M1 = odds_MC.sum(1, keepdim=True)
            loss += (weight_M * ((most_M1 + sum_M1.log())[:, 0] - taken_M)).sum()
            d_logits_MC = odds_MC.scatter_add_(1, at_MK, (-sum_M1 / k).expand(-1, k))
            scale_M1 = weight_M[:, None] / sum_M1
            d_x_NR[piece] = scale_M1 * (d_logits_MC @ prototypes_CR)
            d_prototypes_CR.addmm_(d_logits_MC.T, scale_M1 * x_MR)
        ctx.save_for_backward(d_x_NR, d_prototypes_CR)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The kept gradients, scaled."""
        d_x_NR, d_prototypes_CR = ctx.saved_tensors
        return grads[0] * d_x_NR, grads[0] * d_prototypes_CR, None, None


@torch.no_grad()
def balance(
    model: AlignedDictionary,
    own: dict[str, Int64[Tensor, "N K"]],
    present_NS: Bool[Tensor, "N S"],
    group: Group,
) -> None:
    """Push the scores of concepts that fire too often or too rarely in a stream alone."""
    config, shape = model.config.selector, model.config
    assert config is not None
    even = shape.k / shape.num_concepts
    least, most = config.least_rate * even, max(config.most_rate, 2 * even)
    for column, (name, indices_NK) in enumerate(own.items()):
        selector, here_N = model.selector_of(name), present_NS[:, column].double()
        counts = here_N.new_zeros(shape.num_concepts + 1)  # whole numbers: any order of sums
        here_P = here_N.repeat_interleave(shape.k, output_size=indices_NK.numel())
        counts.index_add_(0, indices_NK.flatten(), here_P)
        counts[-1] = here_N.sum()
        counts = group.sum(counts)
        found_C = (counts[:-1] / counts[-1].clamp_min(1)).float()
        selector.rate_C.lerp_(found_C, (1 - _RATE_MOMENTUM) * (counts[-1] > 0).float())
        rate_C = selector.rate_C
        over_C = (rate_C / most).clamp_min(1).log()
        under_C = ((rate_C + _RARE) / (least + _RARE)).clamp_max(1).log()
        push_C = config.balance_lr * (over_C + under_C)
        selector.score_bias_C -= torch.where(counts[-1] > 0, push_C, 0)


@torch.no_grad()
def plant_prototypes(
    model: AlignedDictionary, store: ActivationStore, rows_R: Int64[np.ndarray, "R"], seed: int
) -> None:
    """Prototypes become places of random training items: their streams' mean map."""
    rng = np.random.default_rng((seed, len(rows_R)))
    wanted_C = np.resize(rng.permutation(rows_R), model.config.num_concepts)
    device, names = model.prototypes_CR.device, [stream.name for stream in store.streams]
    for start in range(0, len(wanted_C), _CHUNK_ROWS):
        batch = store.gather(wanted_C[start : start + _CHUNK_ROWS], None)
        places_NR = torch.zeros(len(batch.present_NS), model.prototypes_CR.shape[1], device=device)
        for name in model.streams:
            here_N = torch.from_numpy(batch.present_NS[:, names.index(name)]).to(device)
            z_ND = model.of(name).normalise(torch.from_numpy(batch.acts[name]).to(device))
            selector = model.selector_of(name)
            places_NR += selector(selector.components(z_ND)) * here_N[:, None]
        model.prototypes_CR[start : start + _CHUNK_ROWS] = unit(places_NR)
    if len(wanted_C) > len(rows_R):
        noise_CR = torch.from_numpy(rng.standard_normal(model.prototypes_CR.shape))
        model.prototypes_CR.add_(noise_CR.to(model.prototypes_CR), alpha=_PROTOTYPE_NOISE)
