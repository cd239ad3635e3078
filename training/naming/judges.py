"""Two judges of names, on held-out items: labels and captions; makes no names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int64
from scipy.sparse import csr_array, vstack
from scipy.stats import hypergeom, rankdata

from training.evaluation.codes import active
from training.naming.firing import correlation, shared
from training.naming.seen import Seen
from training.naming.vocabulary import Term
from training.naming.words import STOP, Key, key_of

NEARLY = 0.8
"""Share of the best term's held-out correlation with which a name counts as borne out."""


class Truth(NamedTuple):
    """What labels say of each concept."""

    label_C: Int64[np.ndarray, "C"]
    """The label that its firings fit best by F1, all streams together."""
    fits_C: Bool[np.ndarray, "C"]
    """Whether better than by chance: p < .01 over all labels."""


class Borne(NamedTuple):
    """How one stream's held-out captions bear names out; means over concepts."""

    concepts: int
    precision: float
    """Share of the items on which a concept fires whose captions hold its name."""
    rate: float
    """Share of all items whose captions do."""
    auc: float
    """Chance that a concept is stronger on an item with its name than on one without."""


def truth(items: Seen, label_names: Sequence[str]) -> Truth:
    """The true name of each concept, from held-out items' labels; knows nothing of captions."""
    column = {label: number for number, label in enumerate(label_names)}
    has_NL = np.zeros((len(items.rows), len(column)), np.int64)
    for place, row in enumerate(items.rows):
        has_NL[place, [column[label] for label in row.labels]] = 1
    codes = csr_array(vstack([active(each) for each in items.codes.values()]))
    labels_NL = np.concatenate([has_NL[items.present[name]] for name in items.codes])
    together_CL = np.asarray(codes.T @ labels_NL)
    fires_C, with_L = np.asarray(codes.sum(axis=0)), labels_NL.sum(axis=0)
    f1_CL = 2 * together_CL / np.maximum(1, fires_C[:, None] + with_L)
    label_C = f1_CL.argmax(axis=1)
    hits_C = together_CL[np.arange(len(label_C)), label_C]
    chance_C = hypergeom.sf(hits_C - 1, len(labels_NL), with_L[label_C], fires_C)
    return Truth(label_C, chance_C * len(column) < 0.01)


def label_terms(
    terms: Sequence[Term], label_names: Sequence[str], synonyms: Mapping[str, Iterable[str]]
) -> Bool[np.ndarray, "T L"]:
    """Which terms say which label and no other: the label itself, a synonym, or a phrase of which
    only such words say a label."""
    says: dict[Key, set[int]] = {}
    for number, label in enumerate(label_names):
        for text in (label, *synonyms.get(label, ())):
            bare = tuple(word for word in key_of(text) if word not in STOP)
            for key in {key_of(text), bare} - {()}:
                says.setdefault(key, set()).add(number)
    right_TL = np.zeros((len(terms), len(label_names)), bool)
    for number, term in enumerate(terms):
        said = says.get(term.key) or set[int]().union(*(says.get((w,), set()) for w in term.key))
        if len(said) == 1:
            right_TL[number, said.pop()] = True
    return right_TL


def borne_out(
    items: Seen, where: Mapping[str, csr_array], term_M: np.ndarray, concept_M: np.ndarray
) -> dict[str, Borne | None]:
    """How each stream bears out that `concept_M` is called `term_M`; None where none is judged.

    Left out are concepts that fire on fewer than 5 items and terms that no item has.
    """
    return {
        name: _borne_out(codes, where[name], term_M, concept_M)
        for name, codes in items.codes.items()
    }


def nearly_best(
    items: Seen, where: Mapping[str, csr_array], best_C: Int64[np.ndarray, "C"]
) -> Bool[np.ndarray, "C"]:
    """Whether each concept's term fits held-out captions nearly as well as the best one does."""
    fits_CT = sum(
        (correlation(active(codes), where[name]) for name, codes in items.codes.items()),
        np.zeros(1),
    )
    own_C = fits_CT[np.arange(len(best_C)), best_C]
    return (own_C > 0) & (own_C >= NEARLY * fits_CT.max(axis=1))


def _borne_out(
    codes: csr_array, where: csr_array, term_M: np.ndarray, concept_M: np.ndarray
) -> Borne | None:
    chosen = csr_array(codes.tocsc()[:, concept_M])
    fires_M = np.asarray(active(chosen).sum(axis=0))
    items = len(chosen.indptr) - 1
    rate_M = np.asarray(where.sum(axis=0))[term_M] / max(1, items)
    judged_M = np.flatnonzero((fires_M >= 5) & (rate_M > 0) & (rate_M < 1))
    if len(judged_M) == 0:
        return None
    hits_M = shared(chosen, where, term_M)
    has, values = where.tocsc(), chosen.tocsc()
    aucs = [
        _auc(values[:, [m]].toarray().ravel(), has[:, [term_M[m]]].toarray().ravel() > 0)
        for m in judged_M
    ]
    precision_M = hits_M[judged_M] / fires_M[judged_M]
    return Borne(
        len(judged_M),
        float(precision_M.mean()),
        float(rate_M[judged_M].mean()),
        float(np.mean(aucs)),
    )


def _auc(values_N: Float32[np.ndarray, "N"], has_N: Bool[np.ndarray, "N"]) -> float:
    positives, negatives = int(has_N.sum()), int((~has_N).sum())
    ranks = rankdata(values_N)[has_N].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))
