"""Made traffic whose truth is known: concepts of long-tailed rates, clients with leanings, copies.

Knows what Koine counts of a window and what a tool that sees every item gets; judges nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32, Int64, Integer

from koine.codes import PAD
from koine.drift.counts import FireCounts
from koine.drift.means import MeanCounts
from koine.drift.nulls import measure_null
from koine.drift.tally import group_of
from koine.profile import StreamProfile

FVU, FVU_SPREAD = 0.4, 0.1
FVU_ALIKE = 0.1
"""Correlation of the fvu of a client's items, where clients have leanings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """What sort of traffic."""

    name: str
    alike: float = 0.0
    """Correlation of two items of a client, in each concept."""
    mean: float = 30
    """Median items of a client; a few send many times as much."""
    copies: float = 0.0
    """Share of what is sent that belongs to bursts of 10 to 50 equal items."""
    single: bool = False
    """The reference was made of items that have no client, as an artifact's is, and has a null;
    else of such traffic."""


INDEPENDENT = Kind(name="independent", single=True)
BURSTS = Kind(name="bursts", copies=0.2)
CLIENTS = Kind(name="clients", alike=0.02)
SINGLE = Kind(name="clients, reference without", alike=0.02, single=True)


class Fires(NamedTuple):
    """What a tool that knows no blocks gets."""

    items: int
    fires_C: Int64[np.ndarray, "C"]


class Window(NamedTuple):
    """Items of a stretch of time, as Koine counts them and as others do."""

    items_B: Int64[np.ndarray, "B"]
    fires_BC: Integer[np.ndarray, "B C"]
    """By block, a client or a group of them; each item once."""
    fvu_sums_B: Float64[np.ndarray, "B"]
    sent: Fires
    """Every item that was sent, copies too."""
    different: Fires
    """Each item once."""

    def profile(self) -> StreamProfile:
        """As a service's, with the sums that verdicts read."""
        return replace(
            StreamProfile.empty(self.fires_BC.shape[1], 1),
            fires=FireCounts.of_blocks(self.fires_BC, self.items_B),
            fvu=MeanCounts.of_blocks(self.items_B, self.fvu_sums_B),
            l0=MeanCounts.of_blocks(self.items_B, self.fires_BC.sum(1).astype(np.float64)),
        )

    def codes(self, seed: int) -> tuple[Int32[np.ndarray, "N K"], Int64[np.ndarray, "N"]]:
        """Active concepts of items that would be counted so, and their blocks' numbers.

        A concept's fires in a block lie on neighbours, from a random one on: what is asked of
        items looks at one concept, or at sums.
        """
        rng = np.random.default_rng(seed)
        block_M, concept_M = np.nonzero(self.fires_BC)
        times_M = self.fires_BC[block_M, concept_M].astype(np.int64)
        begin_M = rng.integers(0, self.items_B[block_M])
        within_F = np.arange(times_M.sum()) - np.repeat(np.cumsum(times_M) - times_M, times_M)
        size_F = np.repeat(self.items_B[block_M], times_M)
        first_B = np.cumsum(self.items_B) - self.items_B
        item_F = np.repeat(first_B[block_M], times_M) + (
            (np.repeat(begin_M, times_M) + within_F) % size_F
        )
        order_F = np.argsort(item_F, kind="stable")
        item_F, concept_F = item_F[order_F], np.repeat(concept_M, times_M)[order_F]
        active_N = np.bincount(item_F, minlength=int(self.items_B.sum()))
        place_F = np.arange(len(item_F)) - np.repeat(np.cumsum(active_N) - active_N, active_N)
        indices_NK = np.full((len(active_N), int(active_N.max(initial=1))), PAD, np.int32)
        indices_NK[item_F, place_F] = concept_F
        return indices_NK, np.repeat(np.arange(len(self.items_B)), self.items_B)


def long_tailed_rates(num_concepts: int, seed: int) -> Float64[np.ndarray, "C"]:
    """From 1 in 10,000 to 1 in 10, evenly in the logarithm."""
    rng = np.random.default_rng(seed)
    return np.exp(rng.uniform(np.log(1e-4), np.log(1e-1), num_concepts))


def block_sizes(items: int, mean: float, rng: np.random.Generator) -> Int64[np.ndarray, "B"]:
    """Clients' shares of `items`: a few send much."""
    sizes: list[int] = []
    while sum(sizes) < items:
        sizes.append(max(1, int(rng.lognormal(np.log(mean), 1))))
    sizes[-1] -= sum(sizes) - items
    return np.array([size for size in sizes if size > 0])


def traffic(
    rates_C: np.ndarray, items: int, seed: int, *, mean: float = 30, alike: float = 0.0
) -> FireCounts:
    """Counts of `items` in blocks; two items of a block correlate by `alike`."""
    kind = Kind(name="", alike=alike, mean=mean)
    made = window(rates_C, items, seed, kind, grouped=False)
    return FireCounts.of_blocks(made.fires_BC, made.items_B)


def window(
    rates_C: np.ndarray, items: int, seed: int, kind: Kind, *, grouped: bool = True
) -> Window:
    """A window in which `items` were sent, counted as the service does: it groups clients by their
    names, however their items spread over time, and takes equal items for one.

    Not `grouped`, each client is a block.
    """
    rng = np.random.default_rng(seed)
    copies_J = _bursts(round(items * kind.copies), rng)
    items_B, rates_BC, fvu_B = _clients(rates_C, items - int(copies_J.sum()), kind, rng)
    fires_BC = rng.binomial(items_B[:, None], rates_BC).astype(np.int32)
    single = Fires(int(items_B.sum()), fires_BC.sum(0, dtype=np.int64))
    support_JC = rng.random((len(copies_J), len(rates_C))) < rates_C
    for support_C in support_JC:
        at = int(rng.integers(len(items_B)))
        items_B[at] += 1
        fires_BC[at] += support_C
    fvu_sums_B = items_B * fvu_B + rng.normal(0, FVU_SPREAD, len(items_B)) * np.sqrt(items_B)
    group_B = np.arange(len(items_B))
    if grouped:
        group_B = np.array([group_of(f"client {seed} {n}", 0) for n in group_B])
    return Window(
        _grouped(items_B, group_B),
        _grouped(fires_BC, group_B),
        _grouped(fvu_sums_B, group_B),
        Fires(single.items + int(copies_J.sum()), single.fires_C + copies_J @ support_JC),
        Fires(single.items + len(copies_J), single.fires_C + support_JC.sum(0)),
    )


def _grouped(of_clients_B: np.ndarray, group_B: np.ndarray) -> np.ndarray:
    """Sums by group, of those that any client is in."""
    order_B = np.argsort(group_B, kind="stable")
    first_G = np.flatnonzero(np.diff(group_B[order_B], prepend=-1))
    return np.add.reduceat(of_clients_B[order_B], first_G)


def reference(
    rates_C: np.ndarray, items: int, seed: int, kind: Kind, *, null: bool = True
) -> tuple[Window, StreamProfile]:
    """Traffic to compare with, and its profile; an artifact's knows what quiet windows are like."""
    made = window(rates_C, items, seed, INDEPENDENT if kind.single else kind)
    profile = made.profile()
    if not kind.single:
        return made, profile
    profile = replace(profile, fires=_single(profile.fires))
    if null:
        indices_NK, block_N = made.codes(seed)
        null_of = measure_null(indices_NK, np.arange(len(block_N)), len(rates_C), seed=seed)
        profile = replace(profile, null=null_of)
    return made, profile


def _single(counts: FireCounts) -> FireCounts:
    """The same fires, each item a block of its own."""
    fired_C = np.minimum(counts.fires_C, 1)
    return FireCounts(
        counts.items,
        counts.items,
        counts.items,
        counts.items,
        counts.fires_C,
        counts.fires_C.astype(np.uint64),
        counts.fires_C.astype(np.uint64),
        fired_C,
        fired_C,
    )


def _bursts(copies: int, rng: np.random.Generator) -> np.ndarray:
    """Sizes of bursts that are about `copies` items together."""
    sizes: list[int] = []
    while sum(sizes) < copies:
        sizes.append(int(rng.integers(10, 51)))
    return np.array(sizes, np.int64)


def _clients(
    rates_C: np.ndarray, items: int, kind: Kind, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clients' items, rates and mean fvu."""
    items_B = block_sizes(items, kind.mean, rng)
    shape = (len(items_B), len(rates_C))
    if not kind.alike:
        return items_B, np.broadcast_to(rates_C, shape), np.full(len(items_B), FVU)
    scale = (1 - kind.alike) / kind.alike
    rates_BC = rng.beta(
        np.broadcast_to(rates_C * scale, shape), np.broadcast_to((1 - rates_C) * scale, shape)
    )
    return items_B, rates_BC, rng.normal(FVU, FVU_SPREAD * FVU_ALIKE**0.5, len(items_B))
