"""Made traffic whose truth is known: concepts of long-tailed rates, clients with leanings."""

from __future__ import annotations

import numpy as np

from koine.drift.counts import FireCounts


def long_tailed_rates(num_concepts: int, seed: int) -> np.ndarray:
    """From 1 in 10,000 to 1 in 10, evenly in the logarithm."""
    rng = np.random.default_rng(seed)
    return np.exp(rng.uniform(np.log(1e-4), np.log(1e-1), num_concepts))


def block_sizes(items: int, mean: float, rng: np.random.Generator) -> np.ndarray:
    """Clients' shares of `items`: a few send much."""
    sizes: list[int] = []
    while sum(sizes) < items:
        sizes.append(max(1, int(rng.lognormal(np.log(mean), 1))))
    sizes[-1] -= sum(sizes) - items
    return np.array([size for size in sizes if size > 0])


def traffic(
    rates_C: np.ndarray, items: int, seed: int, *, mean: float = 30, alike: float = 0.0
) -> FireCounts:
    """`items` in blocks whose rates vary so that two items of a block correlate by `alike`."""
    rng = np.random.default_rng(seed)
    items_B = block_sizes(items, mean, rng)
    if alike:
        scale = (1 - alike) / alike
        shape = (len(items_B), len(rates_C))
        rates_BC = rng.beta(
            np.broadcast_to(rates_C * scale, shape), np.broadcast_to((1 - rates_C) * scale, shape)
        )
    else:
        rates_BC = np.broadcast_to(rates_C, (len(items_B), len(rates_C)))
    return FireCounts.of_blocks(rng.binomial(items_B[:, None], rates_BC), items_B)
