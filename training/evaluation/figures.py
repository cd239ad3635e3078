"""All figures of one dictionary, joint and independent, from one pass over each set of rows."""

from __future__ import annotations

from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from koine.types import Mode
from training.activations import ActivationStore
from training.evaluation.agreement import Agreement, adjusted
from training.evaluation.encoding import MODES, Dictionary, Encoded, encoded
from training.evaluation.kept import Kept
from training.evaluation.labels import label_jaccard, label_purity, label_recovery
from training.evaluation.latents import Firing
from training.evaluation.monosemanticity import monosemanticity
from training.evaluation.probes import Coded, sparse_probes
from training.evaluation.raw import units_of
from training.evaluation.reconstruction import Reconstruction
from training.evaluation.retrieval import chance, retrieval, standard_error
from training.progress import Bar

MAX_CANDIDATES = 10_000
"""Held-out items that retrieval searches among, drawn at random where there are more."""
MAX_PROBE_ROWS = 8192
"""Training rows that probes are fitted on, drawn at random where there are more."""
ORDER_SEED = 0
"""Held-out rows are visited in one seeded random order, the same for every model."""


class Rows(NamedTuple):
    """Which rows of a store a dictionary is judged on."""

    train: Int64[np.ndarray, "M"]
    held_out: Int64[np.ndarray, "N"]
    """In random order: neighbours are unrelated, and the first ones are a random sample."""
    probe: Int64[np.ndarray, "P"]
    """The training rows that probes are fitted on, ascending."""


def rows_of(store: ActivationStore) -> Rows:
    """The store's training rows and its test rows."""
    train_M, held_out_N = store.split("train"), store.split("test")
    held_out_N = np.random.default_rng(ORDER_SEED).permutation(held_out_N)
    drawn_M = np.random.default_rng(ORDER_SEED).permutation(train_M)[:MAX_PROBE_ROWS]
    return Rows(train_M, held_out_N, np.sort(drawn_M))


def figures(
    model: Dictionary,
    store: ActivationStore,
    rows: Rows,
    bar: Bar,
    *,
    max_candidates: int = MAX_CANDIDATES,
) -> dict[Mode, dict[str, Any]]:
    """The report's `joint` and `independent`."""
    train = {mode: _firing(model, store) for mode in MODES}
    probed = {mode: Kept(model.streams) for mode in MODES}
    for batch in encoded(model, store, rows.train):
        labels_NL = store.labels(batch.rows_N)
        for mode in MODES:
            train[mode].add(batch.sparse[mode], batch.present_NS, labels_NL)
            probed[mode].add(batch, mode, np.isin(batch.rows_N, rows.probe))
        bar.advance(len(batch.rows_N))
    held_out = {mode: _HeldOut(model, store, mode, max_candidates) for mode in MODES}
    for batch in encoded(model, store, rows.held_out):
        labels_NL = store.labels(batch.rows_N)
        for mode in MODES:
            held_out[mode].add(batch, labels_NL)
        bar.advance(len(batch.rows_N))
    units = units_of(store, rows.held_out[:max_candidates])
    assembled = {}
    for mode in MODES:
        assembled[mode] = _assembled(train[mode], held_out[mode], store.label_names)
        kept = held_out[mode].kept
        assembled[mode] |= {
            "probe": _probes(store, probed[mode], kept) if store.label_names else None,
            "monosemanticity": monosemanticity(
                kept.codes(), {name: units.acts[name] for name in model.streams}, kept.present()
            ),
        }
    return assembled


def _probes(store: ActivationStore, train: Kept, test: Kept) -> dict[str, Any]:
    return {
        name: sparse_probes(*(_coded(store, kept, name) for kept in (train, test)))
        for name in train.streams
    }


def _coded(store: ActivationStore, kept: Kept, name: str) -> Coded:
    there_N = kept.present()[:, kept.streams.index(name)]
    labels_NL = store.labels(kept.rows())
    return Coded(kept.codes()[name][there_N], labels_NL[there_N])


def _firing(model: Dictionary, store: ActivationStore) -> Firing:
    return Firing(model.streams, model.config.num_concepts, len(store.label_names))


def add_reconstructions(
    sums: Reconstruction, model: Dictionary, batch: Encoded, mode: Mode
) -> None:
    """Count every stream of a batch rebuilt from every stream's codes."""
    names = model.streams
    for target, name in enumerate(names):
        sums.add_targets(name, batch.units[name], batch.present_NS[:, target])
        for source, other in enumerate(names):
            both_N = batch.present_NS[:, source] & batch.present_NS[:, target]
            rebuilt_ND = model.decode(name, batch.codes[mode][other]).float().cpu().numpy()
            sums.add(other, name, batch.units[name][both_N], rebuilt_ND[both_N])


class _HeldOut:
    """Everything that is counted over the held-out rows in one mode."""

    def __init__(
        self, model: Dictionary, store: ActivationStore, mode: Mode, max_candidates: int
    ) -> None:
        self._model, self._max_candidates = model, max_candidates
        self._mode: Mode = mode
        widths = {stream.name: stream.d_in for stream in store.streams}
        self.reconstruction = Reconstruction({name: widths[name] for name in model.streams})
        self.agreement = Agreement(model.streams)
        self.firing = _firing(model, store)
        self.kept = Kept(model.streams)

    def add(self, batch: Encoded, labels_NL: np.ndarray) -> None:
        codes = batch.sparse[self._mode]
        self.agreement.add(codes, batch.present_NS)
        self.firing.add(codes, batch.present_NS, labels_NL)
        add_reconstructions(self.reconstruction, self._model, batch, self._mode)
        room = max(0, self._max_candidates - self.kept.count)
        self.kept.add(batch, self._mode, np.arange(len(batch.rows_N)) < room)

    def retrieval(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Figures and chance, both keyed "a->b": codes of stream a seek their item in stream b."""
        found: dict[str, Any] = {}
        by_chance: dict[str, Any] = {}
        names = self._model.streams
        present_NS, kept = self.kept.present(), self.kept.codes()
        for a, b in permutations(names, 2):
            both_N = present_NS[:, names.index(a)] & present_NS[:, names.index(b)]
            items = int(both_N.sum())
            figures = retrieval(kept[a][both_N], kept[b][both_N])
            figures["r10_se"] = standard_error(figures["r10"], items)
            found[f"{a}->{b}"] = figures
            by_chance[f"{a}->{b}"] = {"items": items, **chance(items)}
        return found, by_chance


def _assembled(train: Firing, held_out: _HeldOut, label_names: tuple[str, ...]) -> dict[str, Any]:
    true, shuffled = held_out.agreement.true(), held_out.agreement.shuffled()
    found, by_chance = held_out.retrieval()
    labelled = bool(label_names)
    return {
        "fvu": held_out.reconstruction.fvu(),
        "nmse": held_out.reconstruction.nmse(),
        "active_jaccard": true,
        "active_jaccard_shuffled": shuffled,
        "active_jaccard_adjusted": adjusted(true, shuffled),
        "overlap": held_out.agreement.overlap(),
        "overlap_shuffled": held_out.agreement.overlap_shuffled(),
        "label_jaccard": label_jaccard(held_out.firing) if labelled else None,
        "latents": train.latents(),
        "usage": train.usage(),
        "l0": held_out.firing.l0(),
        "retrieval": found,
        "retrieval_chance": by_chance,
        "label_recovery": label_recovery(train, held_out.firing, label_names) if labelled else None,
        "firing_rates": train.rates(),
        "label_purity": label_purity(train, held_out.firing) if labelled else None,
        "firing_entropy": train.firing_entropy(),
    }
