"""How often concepts fire, and with which labels; dead, mixed, alive and dense latents, usage,
L0, firing entropy."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.sparse import csr_array
from scipy.special import entr

from koine.types import PresentNS
from training.evaluation.codes import active

RATE_EDGES = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
"""Borders of the firing-rate histogram; a latent that never fires stands apart."""
DENSE_RATE = 0.1
"""A latent that is active on a larger share of the rows says little about any of them."""


class Firing:
    """Counts over batches of rows: how often each concept fires in each stream, and together
    with each label. Memory: streams × concepts × (labels + 1) integers, whatever the rows."""

    def __init__(self, streams: tuple[str, ...], num_concepts: int, num_labels: int) -> None:
        self.streams = streams
        self.rows = dict.fromkeys(streams, 0)
        """Rows that have the stream."""
        self.fires: dict[str, Int64[np.ndarray, "C"]] = {
            name: np.zeros(num_concepts, np.int64) for name in streams
        }
        self.with_label = {name: np.zeros((num_concepts, num_labels), np.int32) for name in streams}
        """Rows where the concept fires and the label holds, C × labels."""
        self.labelled = {name: np.zeros(num_labels, np.int64) for name in streams}
        """Rows that have the stream and the label."""

    def add(
        self,
        codes: dict[str, csr_array],
        present_NS: PresentNS,
        labels_NL: Bool[np.ndarray, "N L"],
    ) -> None:
        """Count a batch."""
        labels = csr_array(labels_NL.astype(np.int32))
        for column, name in enumerate(self.streams):
            present_N = present_NS[:, column]
            set_NC = active(codes[name][present_N])
            self.rows[name] += int(present_N.sum())
            self.fires[name] += np.bincount(set_NC.indices, minlength=len(self.fires[name]))
            together = (set_NC.T @ labels[present_N]).tocoo()
            self.with_label[name][together.row, together.col] += together.data.astype(np.int32)
            self.labelled[name] += labels_NL[present_N].sum(axis=0)

    def latents(self) -> dict[str, int]:
        """How many latents fire in no stream, in some and in all; and how many are dense in one
        stream or more."""
        firing_SC = np.stack([fires_C > 0 for fires_C in self.fires.values()])
        firing_C = firing_SC.sum(axis=0)
        dead, alive = int((firing_C == 0).sum()), int((firing_C == len(self.streams)).sum())
        dense_C = (self._rates() > DENSE_RATE).any(axis=0)
        return {
            "dead": dead,
            "mixed": len(firing_C) - dead - alive,
            "alive": alive,
            "dense": int(dense_C.sum()),
        }

    def firing_entropy(self) -> float | None:
        """Over streams, of a concept's firing rates, mean over the concepts that fire.

        -Σ_s p_s log p_s / log S with p_s the stream's share of the concept's rates (USAE, arXiv
        2502.03714): 1 where every stream uses it equally often, 0 where one alone does. Rates, not
        counts, so that a stream that many rows lack weighs no less. None with one stream.
        """
        rates_SC = self._rates()
        rates_SM = rates_SC[:, rates_SC.any(axis=0)]
        if len(rates_SM) < 2 or rates_SM.shape[1] == 0:
            return None
        p_SM = rates_SM / rates_SM.sum(axis=0)
        return float(entr(p_SM).sum(axis=0).mean() / np.log(len(p_SM)))

    def usage(self) -> dict[str, float | None]:
        """Perplexity exp(H) of each stream's firing frequencies: how many concepts it uses."""
        return {name: perplexity(fires_C) for name, fires_C in self.fires.items()}

    def l0(self) -> dict[str, float | None]:
        """Mean number of active concepts of the rows that have the stream."""
        return {
            name: float(self.fires[name].sum() / rows) if rows else None
            for name, rows in self.rows.items()
        }

    def rates(self) -> dict[str, list[int]]:
        """Histogram of firing rates: latents that never fire, then those within `RATE_EDGES`."""
        histograms = {}
        for name, fires_C in self.fires.items():
            rates_M = fires_C[fires_C > 0] / max(1, self.rows[name])
            counts, _ = np.histogram(rates_M, RATE_EDGES)
            histograms[name] = [int((fires_C == 0).sum()), *map(int, counts)]
        return histograms

    def _rates(self) -> Float64[np.ndarray, "S C"]:
        return np.stack([self.fires[name] / max(1, self.rows[name]) for name in self.streams])


def perplexity(counts_C: Int64[np.ndarray, "C"]) -> float | None:
    """exp of the entropy of counts: n equally frequent things give n. None without any count."""
    total = counts_C.sum()
    if total == 0:
        return None
    p_M = counts_C[counts_C > 0] / total
    return float(np.exp(-(p_M * np.log(p_M)).sum()))
