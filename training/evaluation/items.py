"""Figures of single held-out items, and the intervals of their means; draws and judges nothing.

At most `MAX_CANDIDATES` items, the first of the random order: those that retrieval searches among.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import permutations, product
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64
from scipy.sparse import csr_array

from koine.types import Mode, PresentNS
from training.activations import ActivationStore
from training.evaluation.agreement import jaccard, overlap
from training.evaluation.bootstrap import Bootstrap, Interval, interval
from training.evaluation.codes import stream_pairs
from training.evaluation.encoding import MODES, Dictionary, encoded
from training.evaluation.kept import Kept
from training.evaluation.raw import Units, units_of
from training.evaluation.retrieval import hits, ranks_of

PerItem = Float64[np.ndarray, "N"]
Measured = dict[str, PerItem]
Draws = dict[str, np.ndarray]


class HeldOutItems(NamedTuple):
    """A sample of the held-out rows, and their codes."""

    rows_N: Int64[np.ndarray, "N"]
    present_NS: PresentNS
    streams: tuple[str, ...]
    codes: dict[Mode, dict[str, csr_array]]
    errors: dict[Mode, Measured]
    """Squared error of every stream rebuilt from every stream's codes, "a->b"; NaN if not both."""
    spread: Measured
    """Squared distance of a stream's unit-norm activation from its mean; NaN where absent."""

    def both(self, a: str, b: str) -> np.ndarray:
        """Which items have both streams."""
        return self.present_NS[:, self.streams.index(a)] & self.present_NS[:, self.streams.index(b)]


def held_out_items(
    model: Dictionary, store: ActivationStore, rows_N: Int64[np.ndarray, "N"]
) -> HeldOutItems:
    """Encode the rows in both modes and rebuild every stream from every other."""
    streams = model.streams
    kept = {mode: Kept(streams) for mode in MODES}
    errors: dict[Mode, dict[str, list[np.ndarray]]] = {
        mode: {f"{a}->{b}": [] for a, b in product(streams, streams)} for mode in MODES
    }
    for batch in encoded(model, store, rows_N):
        for mode, (a, b) in product(MODES, product(streams, streams)):
            rebuilt_ND = model.decode(b, batch.codes[mode][a]).float().cpu().numpy()
            both_N = batch.present_NS[:, streams.index(a)] & batch.present_NS[:, streams.index(b)]
            errors_N = ((rebuilt_ND - batch.units[b]).astype(np.float64) ** 2).sum(axis=1)
            errors[mode][f"{a}->{b}"].append(np.where(both_N, errors_N, np.nan))
        for mode in MODES:
            kept[mode].add(batch, mode, np.ones(len(batch.rows_N), bool))
    return HeldOutItems(
        rows_N,
        kept["joint"].present(),
        streams,
        {mode: kept[mode].codes() for mode in MODES},
        {mode: {way: np.concatenate(x) for way, x in errors[mode].items()} for mode in MODES},
        _spread(units_of(store, rows_N), [stream.name for stream in store.streams]),
    )


def intervals(items: HeldOutItems) -> dict[Mode, dict[str, Any]]:
    """By mode: `active_jaccard`, `active_jaccard_adjusted`, `overlap`, `fvu` and `retrieval` (R@10)
    with the keys of the report, `own` and `other` for the means of `fvu`, `mean` for the others'.

    Each is `value`, `low`, `high` (95 %, items resampled 1,000 times), or None.
    """
    bootstrap = Bootstrap(len(items.rows_N))
    return {mode: _figures(items, mode, bootstrap) for mode in MODES}


def _figures(items: HeldOutItems, mode: Mode, bootstrap: Bootstrap) -> dict[str, Any]:
    pairs, ways = stream_pairs(items.streams), list(permutations(items.streams, 2))

    def draws(measure: Callable[..., PerItem], sign: str, which: Any, roll: int = 0) -> Draws:
        return {
            f"{a}{sign}{b}": bootstrap.mean(_measured(items, mode, measure, a, b, roll))
            for a, b in which
        }

    true, chance = draws(jaccard, "|", pairs), draws(jaccard, "|", pairs, roll=1)
    true["mean"], chance["mean"] = _mean(true.values()), _mean(chance.values())
    shared, found = draws(overlap, "->", ways), draws(_found, "->", ways)
    figures = {
        "active_jaccard": true,
        "active_jaccard_adjusted": {key: _adjusted(true[key], chance[key]) for key in true},
        "overlap": shared | {"mean": _mean(shared.values())},
        "fvu": _fvu(items, mode, bootstrap),
        "retrieval": found | {"mean": _mean(found.values())},
    }
    return {
        name: {key: _record(interval(draw)) for key, draw in each.items()}
        for name, each in figures.items()
    }


def _measured(
    items: HeldOutItems, mode: Mode, measure: Callable[..., PerItem], a: str, b: str, roll: int
) -> PerItem:
    """Item by item, NaN where one stream lacks; `roll` pairs an item with the next one's b."""
    both_N = items.both(a, b)
    values_N = np.full(len(both_N), np.nan)
    codes_b = items.codes[mode][b][both_N]
    if both_N.sum() > roll:
        order_M = np.roll(np.arange(int(both_N.sum())), -roll)
        values_N[both_N] = measure(items.codes[mode][a][both_N], codes_b[order_M])
    return values_N


def _found(codes_a: csr_array, codes_b: csr_array) -> PerItem:
    return hits(ranks_of(codes_a, codes_b), 10)


def _fvu(items: HeldOutItems, mode: Mode, bootstrap: Bootstrap) -> Draws:
    draws: Draws = {}
    for way, errors_N in items.errors[mode].items():
        there_N = ~np.isnan(errors_N)
        spread_N = items.spread[way.split("->")[1]]
        draws[way] = bootstrap.ratio(
            np.where(there_N, errors_N, 0.0), np.where(there_N, spread_N, 0.0)
        )
    own = {f"{name}->{name}" for name in items.streams}
    return draws | {
        "own": _mean(draws[way] for way in draws if way in own),
        "other": _mean(draws[way] for way in draws if way not in own),
    }


def _adjusted(true_R: np.ndarray, chance_R: np.ndarray) -> np.ndarray:
    room_R = 1 - chance_R
    return np.divide(true_R - chance_R, room_R, out=np.full(len(room_R), np.nan), where=room_R > 0)


def _mean(draws: Iterable[np.ndarray]) -> np.ndarray:
    """Over what is known, figure by figure; NaN where nothing is."""
    known = [draw for draw in draws if not np.isnan(draw[0])]
    return np.mean(known, axis=0) if known else np.array([np.nan])


def _spread(units: Units, names: list[str]) -> Measured:
    found: Measured = {}
    for column, name in enumerate(names):
        there_N = units.present_NS[:, column]
        acts_ND = units.acts[name].astype(np.float64)
        mean_D = acts_ND[there_N].mean(axis=0) if there_N.any() else 0.0
        found[name] = np.where(there_N, ((acts_ND - mean_D) ** 2).sum(axis=1), np.nan)
    return found


def _record(found: Interval | None) -> dict[str, float] | None:
    return found and found._asdict()
