"""Items as naming sees them: what is known of each and which concepts fire on it; names none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64
from scipy.sparse import csr_array, vstack

from training.activations import ActivationStore, Row
from training.evaluation.encoding import encoded
from training.model import AlignedDictionary
from training.naming.vocabulary import Term, locate
from training.progress import Bar


class Seen(NamedTuple):
    """Some items with their independent codes."""

    numbers_N: Int64[np.ndarray, "N"]
    """Row numbers in the store."""
    rows: Sequence[Row]
    present: Mapping[str, Int64[np.ndarray, "M"]]
    """By stream: the places in `rows` of the items that have it, ascending."""
    codes: Mapping[str, csr_array]
    """By stream: those items × concepts."""

    def where(self, terms: Sequence[Term], *, labels: bool) -> dict[str, csr_array]:
        """By stream: the items of `codes` × terms, 1 where an item has the term."""
        everywhere = locate(self.rows, terms, labels=labels)
        return {name: csr_array(everywhere[at_M]) for name, at_M in self.present.items()}

    @property
    def num_concepts(self) -> int:
        """C."""
        shape = next(iter(self.codes.values())).shape
        assert shape is not None
        return int(shape[1])


def see(
    model: AlignedDictionary, store: ActivationStore, rows_N: Int64[np.ndarray, "N"], bar: Bar
) -> Seen:
    """Encode items, each stream alone; an item's first caption stands for it in a text stream."""
    present: dict[str, list[np.ndarray]] = {name: [] for name in model.streams}
    empty = csr_array((0, model.config.num_concepts), dtype=np.float32)
    codes: dict[str, list[csr_array]] = {name: [empty] for name in model.streams}
    done = 0
    for batch in encoded(model, store, rows_N, modes=("independent",)):
        for column, name in enumerate(model.streams):
            at_M = np.flatnonzero(batch.present_NS[:, column])
            present[name].append(at_M + done)
            codes[name].append(csr_array(batch.sparse["independent"][name][at_M]))
        done += len(batch.rows_N)
        bar.advance(len(batch.rows_N))
    return Seen(
        numbers_N=rows_N,
        rows=[store.row(int(number)) for number in rows_N],
        present={
            name: np.concatenate([np.zeros(0, np.int64), *parts]) for name, parts in present.items()
        },
        codes={name: csr_array(vstack(parts)) for name, parts in codes.items()},
    )


def spread(rows_N: Int64[np.ndarray, "N"], most: int) -> Int64[np.ndarray, "M"]:
    """At most so many of the rows, evenly spread."""
    if len(rows_N) <= most:
        return rows_N
    return rows_N[np.linspace(0, len(rows_N) - 1, most).astype(np.int64)]
