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
from training.configs import Selection
from training.kernels.selection import Scorer

UNIT_NORM_EPS = 1e-8


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
        return Scorer((z_ND - self.pre_bias_D).detach(), self.encoder_CD, self.latent_bias_C)


class AlignedDictionary(nn.Module):
    """Several streams over one set of concepts; the public methods take raw activations."""

    def __init__(self, config: ModelConfig, widths: dict[str, int]) -> None:
        super().__init__()
        self.config = config
        self.stream = nn.ModuleDict(
            {name: Stream(d_in, config.num_concepts) for name, d_in in widths.items()}
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

    @torch.no_grad()
    def encode(
        self,
        acts: dict[str, Tensor],
        mode: Mode,
        present_NS: Bool[Tensor, "N S"] | None = None,
    ) -> dict[str, TopK]:
        """Codes of each given stream, from raw activations.

        `joint` sums the pre-codes of an item's present streams and selects once; a Local TopK
        model selects alone in either mode. Rows of an absent stream are zeros.
        `present_NS` has one column for each stream of `acts`, in its order.
        """
        pre = {
            name: self.of(name).pre_codes(self.of(name).normalise(x)) for name, x in acts.items()
        }
        if mode == "joint" and self.config.selection == "global":
            support_NK = select(list(pre.values()), self.config.k, present_NS)
            supports = dict.fromkeys(pre, support_NK)
        else:
            supports = {name: select([p], self.config.k) for name, p in pre.items()}
        codes = {}
        for column, name in enumerate(pre):
            values_NK = pre[name].gather(1, supports[name]).relu()
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


def unit(acts_ND: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """Rows brought to unit norm: x / (‖x‖ + 1e-8)."""
    return acts_ND / (acts_ND.norm(dim=1, keepdim=True) + UNIT_NORM_EPS)


def select(
    pre_codes: list[Tensor], k: int, selecting_NS: Bool[Tensor, "N S"] | None = None
) -> Int64[Tensor, "N K"]:
    """Global TopK: the k latents with the largest sum of pre-codes over the selecting streams."""
    if selecting_NS is None:
        scores_NC = torch.stack(pre_codes).sum(0) if len(pre_codes) > 1 else pre_codes[0]
    else:
        masked = [p * selecting_NS[:, i, None] for i, p in enumerate(pre_codes)]
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
