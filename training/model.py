"""The aligned dictionary: one sparse code space over several streams.

Knows how to select, encode and decode; nothing of losses, data or steps.
Method: SPARC, arXiv 2507.06265. Shape letters in `koine/types.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from koine.types import Mode
from training.configs import Selection, SelectorConfig
from training.kernels.selection import Scorer
from training.kernels.sparse import Support, values_at
from training.selector import StreamSelector, refined_codes, scorers
from training.unit import unit


class TopK(NamedTuple):
    """Codes of N items, strongest first; entries that select nothing have value 0."""

    indices_NK: Int64[Tensor, "N K"]
    values_NK: Float[Tensor, "N K"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """What fixes the model's shape and its selection."""

    num_concepts: int
    """C."""
    k: int
    """K."""
    selection: Selection = "global"
    """Whether the streams of an item select together or each alone."""
    selector: SelectorConfig | None = None
    """How scores come from a space that the streams share; None: scores are the pre-codes."""


class Stream(nn.Module):
    """One stream's encoder, decoder and input normalisation.

    z = (unit(x) - shift) · scale;  pre_codes = (z - pre_bias) · encoderᵀ + latent_bias;
    reconstruction of z = codes · dictionary + pre_bias.
    """

    mean_D: Tensor
    shift_D: Tensor
    scale: Tensor

    def __init__(self, d_in: int, num_concepts: int) -> None:
        super().__init__()
        bound = d_in**-0.5  # nn.Linear's default, as in SPARC's published code
        encoder_CD = torch.empty(num_concepts, d_in).uniform_(-bound, bound)
        self.encoder_CD = nn.Parameter(encoder_CD)
        self.latent_bias_C = nn.Parameter(torch.zeros(num_concepts))
        self.pre_bias_D = nn.Parameter(torch.zeros(d_in))
        self.dictionary_CD = nn.Parameter(nn.functional.normalize(encoder_CD, dim=1))
        self.register_buffer("mean_D", torch.zeros(d_in))
        self.register_buffer("shift_D", torch.zeros(d_in))
        self.register_buffer("scale", torch.ones(()))

    def normalise(self, acts_ND: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        """Raw activations → z, what encoder and decoder work on."""
        return (unit(acts_ND) - self.shift_D) * self.scale

    def pre_codes(self, z_ND: Float[Tensor, "N D"]) -> Float[Tensor, "N C"]:
        """Scores before selection."""
        return nn.functional.linear(z_ND - self.pre_bias_D, self.encoder_CD, self.latent_bias_C)

    def scorer(self, z_ND: Float[Tensor, "N D"]) -> Scorer:
        """Pre-codes, for selection only: not differentiable."""
        centred_ND = (z_ND - self.pre_bias_D).detach()
        return Scorer(centred_ND, self.encoder_CD, self.latent_bias_C)


class AlignedDictionary(nn.Module):
    """Several streams over one set of concepts; the public methods take raw activations."""

    def __init__(self, config: ModelConfig, widths: dict[str, int]) -> None:
        super().__init__()
        self.config = config
        self.stream = nn.ModuleDict(
            {name: Stream(d_in, config.num_concepts) for name, d_in in widths.items()}
        )
        shared = config.selector
        if shared is not None:
            self.prototypes_CR = nn.Parameter(unit(torch.randn(config.num_concepts, shared.width)))
            self.selector = nn.ModuleDict(
                {
                    name: StreamSelector(d_in, config.num_concepts, config.k, shared)
                    for name, d_in in widths.items()
                }
            )

    @property
    def streams(self) -> tuple[str, ...]:
        """Stream names in the order of `present_NS`'s columns."""
        return tuple(self.stream)

    def of(self, name: str) -> Stream:
        """The stream called `name`."""
        stream = self.stream[name]
        assert isinstance(stream, Stream)
        return stream

    def selector_of(self, name: str) -> StreamSelector:
        """The selector of stream `name`, for models that have one."""
        selector = self.selector[name]
        assert isinstance(selector, StreamSelector)
        return selector

    def scorers(self, name: str, z_ND: Float[Tensor, "N D"]) -> list[Scorer]:
        """What a stream's scores are the sum of: not differentiable."""
        pre_codes = self.of(name).scorer(z_ND)
        if self.config.selector is None:
            return [pre_codes]
        selector = self.selector_of(name)
        return scorers(selector, self.prototypes_CR, pre_codes, z_ND)

    @torch.no_grad()
    def scores(self, name: str, z_ND: Float[Tensor, "N D"]) -> Float[Tensor, "N C"]:
        """What selection ranks."""
        parts = [nn.functional.linear(*scorer) for scorer in self.scorers(name, z_ND)]
        return torch.stack(parts).sum(0)

    def codes_at(
        self, name: str, z_ND: Float[Tensor, "N D"], support: Support
    ) -> Float[Tensor, "N K"]:
        """A stream's codes at a support (U = 1), differentiable in its parameters."""
        s = self.of(name)
        pre_NK = values_at(z_ND, s.pre_bias_D, s.encoder_CD, s.latent_bias_C, support)
        if self.config.selector is None:
            return pre_NK.relu()
        return refined_codes(
            pre_NK, z_ND, s.dictionary_CD, s.pre_bias_D, support, self.config.selector
        )

    @torch.no_grad()
    def encode(
        self,
        acts: dict[str, Tensor],
        mode: Mode,
        present_NS: Bool[Tensor, "N S"] | None = None,
    ) -> dict[str, TopK]:
        """Codes of each given stream, from raw activations.

        `joint` sums the scores of an item's present streams and selects once; a Local TopK
        model selects alone in either mode. Rows of an absent stream are zeros.
        `present_NS` has one column for each stream of `acts`, in its order.
        """
        z = {name: self.of(name).normalise(x).float() for name, x in acts.items()}
        scores = {name: self.scores(name, z_ND) for name, z_ND in z.items()}
        if mode == "joint" and self.config.selection == "global":
            supports = dict.fromkeys(z, select(list(scores.values()), self.config.k, present_NS))
        else:
            supports = {name: select([p], self.config.k) for name, p in scores.items()}
        codes = {}
        for column, name in enumerate(z):
            support = Support.of(supports[name][None], self.config.num_concepts)
            values_NK = self.codes_at(name, z[name], support)
            if present_NS is not None:
                values_NK = values_NK * present_NS[:, column, None]
            codes[name] = strongest_first(TopK(supports[name], values_NK))
        return codes

    @torch.no_grad()
    def decode(self, name: str, codes: TopK) -> Float[Tensor, "N D"]:
        """Unit-norm activations of stream `name` that the codes of any stream stand for."""
        stream = self.of(name)
        z_ND = weighted_rows(codes, stream.dictionary_CD) + stream.pre_bias_D
        return z_ND / stream.scale + stream.shift_D


def select(
    scores: list[Tensor], k: int, selecting_NS: Bool[Tensor, "N S"] | None = None
) -> Int64[Tensor, "N K"]:
    """Global TopK: the k latents with the largest sum of scores over the selecting streams."""
    if selecting_NS is None:
        scores_NC = torch.stack(scores).sum(0) if len(scores) > 1 else scores[0]
    else:
        masked = [p * selecting_NS[:, i, None] for i, p in enumerate(scores)]
        scores_NC = torch.stack(masked).sum(0)
    return scores_NC.topk(k, dim=1).indices


def strongest_first(codes: TopK) -> TopK:
    """Sorted by value, largest first, ties by index."""
    indices_NK, order_NK = codes.indices_NK.sort(dim=1)
    values_NK = codes.values_NK.gather(1, order_NK)
    values_NK, order_NK = values_NK.sort(dim=1, descending=True, stable=True)
    return TopK(indices_NK.gather(1, order_NK), values_NK)


def weighted_rows(codes: TopK, dictionary_CD: Float[Tensor, "C D"]) -> Float[Tensor, "N D"]:
    """codes · dictionary, reading only the K rows that each item activates."""
    return nn.functional.embedding_bag(
        codes.indices_NK, dictionary_CD, per_sample_weights=codes.values_NK, mode="sum"
    )


def dense(codes: TopK, num_concepts: int) -> Float[Tensor, "N C"]:
    """Codes with every concept in its column."""
    zeros_NC = codes.values_NK.new_zeros(len(codes.indices_NK), num_concepts)
    return zeros_NC.scatter(1, codes.indices_NK, codes.values_NK)
