"""Watches a fit for agreement that few concepts buy; decides nothing about the fit.

Looks at the same few training rows each time, every stream encoded alone. What is worth a warning
stands in `training/evaluation/guard.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int64

from training.activations.store import ActivationStore
from training.evaluation.agreement import Agreement, adjusted
from training.evaluation.encoding import encoded
from training.evaluation.guard import collapse_warnings
from training.evaluation.latents import Firing
from training.model import AlignedDictionary
from training.permutation import shuffled

MAX_ROWS = 2048
_SEED = 0  # of which rows: the same whatever the run


class Watch:
    """Agreement beside usage, dead latents and chance."""

    def __init__(self, store: ActivationStore, rows_R: Int64[np.ndarray, "R"]) -> None:
        self._store = store
        places_N = shuffled(len(rows_R), (_SEED,), 0, min(MAX_ROWS, len(rows_R)))
        self._rows_N = rows_R[places_N]  # in random order, as `Agreement` wants them

    def look(self, model: AlignedDictionary) -> dict[str, Any]:
        """Figures of independent encoding, named as in a report; `fvu` is left empty."""
        streams, num_concepts = model.streams, model.config.num_concepts
        agreement, firing = Agreement(streams), Firing(streams, num_concepts, 0)
        for batch in encoded(model, self._store, self._rows_N, modes=("independent",)):
            codes = batch.sparse["independent"]
            agreement.add(codes, batch.present_NS)
            firing.add(codes, batch.present_NS, np.zeros((len(batch.rows_N), 0), bool))
        true, chance = agreement.true(), agreement.shuffled()
        return {
            "active_jaccard_adjusted": adjusted(true, chance),
            "active_jaccard_shuffled": chance,
            "usage": firing.usage(),
            "latents": firing.latents(),
            "fvu": {},
        }


def scalars(figures: dict[str, Any]) -> dict[str, float]:
    """What goes into the history: of usage the least over the streams."""
    found = {
        "agreement_adjusted": figures["active_jaccard_adjusted"]["mean"],
        "agreement_shuffled": figures["active_jaccard_shuffled"]["mean"],
        "usage": min((used for used in figures["usage"].values() if used), default=None),
    }
    return {name: value for name, value in found.items() if value is not None}


def warnings(figures: dict[str, Any], num_concepts: int) -> list[str]:
    """Of the latents that never fire on so few rows nothing is said."""
    few_rows = figures | {"latents": {"dead": 0}}
    return collapse_warnings(few_rows, num_concepts)
