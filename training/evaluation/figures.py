"""All figures of one dictionary, joint and independent, from one pass over each set of rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from scipy.sparse import csr_array, vstack

from koine.types import Mode
from training.activations import ActivationStore
from training.evaluation.agreement import Agreement, adjusted
from training.evaluation.encoding import MODES, Encoded, encoded
from training.evaluation.labels import label_jaccard, label_recovery
from training.evaluation.latents import Firing
from training.evaluation.reconstruction import Reconstruction
from training.evaluation.retrieval import chance, retrieval
from training.model import AlignedDictionary
from training.progress import Bar

MAX_CANDIDATES = 10_000
"""Held-out items that retrieval searches among, drawn at random where there are more."""
ORDER_SEED = 0
"""Held-out rows are visited in one seeded random order, the same for every model."""


class Rows(NamedTuple):
    """Which rows of a store a dictionary is judged on."""

    train: Int64[np.ndarray, "M"]
    held_out: Int64[np.ndarray, "N"]
    """In random order: neighbours are unrelated, and the first ones are a random sample."""


def rows_of(store: ActivationStore) -> Rows:
    """The store's training rows and its test rows."""
    held_out_N = store.split("test")
    return Rows(store.split("train"), np.random.default_rng(ORDER_SEED).permutation(held_out_N))


def figures(
    model: AlignedDictionary,
    store: ActivationStore,
    rows: Rows,
    bar: Bar,
    *,
    max_candidates: int = MAX_CANDIDATES,
) -> dict[Mode, dict[str, Any]]:
    """The report's `joint` and `independent`."""
    train = {mode: _firing(model, store) for mode in MODES}
    for batch in encoded(model, store, rows.train):
        labels_NL = store.labels(batch.rows_N)
        for mode in MODES:
            train[mode].add(batch.sparse[mode], batch.present_NS, labels_NL)
        bar.advance(len(batch.rows_N))
    held_out = {mode: _HeldOut(model, store, mode, max_candidates) for mode in MODES}
    for batch in encoded(model, store, rows.held_out):
        labels_NL = store.labels(batch.rows_N)
        for mode in MODES:
            held_out[mode].add(batch, labels_NL)
        bar.advance(len(batch.rows_N))
    return {mode: _assembled(train[mode], held_out[mode], store.label_names) for mode in MODES}


def _firing(model: AlignedDictionary, store: ActivationStore) -> Firing:
    return Firing(model.streams, model.config.num_concepts, len(store.label_names))


class _HeldOut:
    """Everything that is counted over the held-out rows in one mode."""

    def __init__(
        self, model: AlignedDictionary, store: ActivationStore, mode: Mode, max_candidates: int
    ) -> None:
        self._model, self._max_candidates = model, max_candidates
        self._mode: Mode = mode
        widths = {stream.name: stream.d_in for stream in store.streams}
        self.reconstruction = Reconstruction({name: widths[name] for name in model.streams})
        self.agreement = Agreement(model.streams)
        self.firing = _firing(model, store)
        self._kept: dict[str, list[csr_array]] = {name: [] for name in model.streams}
        self._kept_present: list[np.ndarray] = []
        self._num_kept = 0

    def add(self, batch: Encoded, labels_NL: np.ndarray) -> None:
        codes = batch.sparse[self._mode]
        self.agreement.add(codes, batch.present_NS)
        self.firing.add(codes, batch.present_NS, labels_NL)
        self._add_reconstruction(batch)
        room = self._max_candidates - self._num_kept
        if room > 0:
            for name, kept in self._kept.items():
                kept.append(codes[name][:room])
            self._kept_present.append(batch.present_NS[:room])
            self._num_kept += len(batch.present_NS[:room])

    def _add_reconstruction(self, batch: Encoded) -> None:
        names = self._model.streams
        for target, name in enumerate(names):
            self.reconstruction.add_targets(name, batch.units[name], batch.present_NS[:, target])
            for source, other in enumerate(names):
                both_N = batch.present_NS[:, source] & batch.present_NS[:, target]
                rebuilt = self._model.decode(name, batch.codes[self._mode][other])
                rebuilt_ND = rebuilt.to(torch.float32).cpu().numpy()
                self.reconstruction.add(other, name, batch.units[name][both_N], rebuilt_ND[both_N])

    def retrieval(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Figures and chance, both keyed "a->b": codes of stream a seek their item in stream b."""
        found: dict[str, Any] = {}
        by_chance: dict[str, Any] = {}
        names = self._model.streams
        if not self._kept_present:
            return found, by_chance
        present_NS = np.concatenate(self._kept_present)
        kept = {name: csr_array(vstack(parts)) for name, parts in self._kept.items()}
        for a in names:
            for b in names:
                if a == b:
                    continue
                both_N = present_NS[:, names.index(a)] & present_NS[:, names.index(b)]
                found[f"{a}->{b}"] = retrieval(kept[a][both_N], kept[b][both_N])
                by_chance[f"{a}->{b}"] = {"items": int(both_N.sum()), **chance(int(both_N.sum()))}
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
        "label_jaccard": label_jaccard(held_out.firing) if labelled else None,
        "latents": train.latents(),
        "usage": train.usage(),
        "l0": held_out.firing.l0(),
        "retrieval": found,
        "retrieval_chance": by_chance,
        "label_recovery": label_recovery(train, held_out.firing, label_names) if labelled else None,
        "firing_rates": train.rates(),
        "probe": None,
        "monosemanticity": None,
    }
