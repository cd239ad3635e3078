"""Where two streams part: on which items, and on which concepts; reads codes, opens no image.

Independent encoding only: joint encoding chooses one support and has nothing to part on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64
from scipy.sparse import csr_array

from training.activations import ActivationStore
from training.evaluation.agreement import jaccard
from training.evaluation.codes import active, stream_pairs
from training.evaluation.items import HeldOutItems

ITEMS = 2
"""Items shown for a pair of streams: those that agree least."""
CONCEPTS = 3
"""Concepts shown for a direction of a pair."""
EXAMPLES = 3
"""Items shown for a concept."""
STRONGEST = 5
"""Concepts named for an item, from the strongest down."""
MIN_FIRES = 5
"""Held-out firings from which a concept is counted: fewer are chance."""
ONE_SIDED = 0.1
"""A concept is one stream's own where the other fires it less than this share as often."""

Label = Callable[[int], str | None]


def disagreement(items: HeldOutItems, store: ActivationStore, label: Label) -> dict[str, Any]:
    """The report's `disagreement`, keyed "a|b"; `label` gives a concept's name, if it has one."""
    shown: set[int] = set()
    pairs = stream_pairs(items.streams)
    return {f"{a}|{b}": _pair(items, store, label, a, b, shown) for a, b in pairs}


class _Counts(NamedTuple):
    """Held-out items in which concepts fire: in a, in b, in both."""

    a_C: Int64[np.ndarray, "C"]
    b_C: Int64[np.ndarray, "C"]
    both_C: Int64[np.ndarray, "C"]
    items: int


def _pair(
    items: HeldOutItems, store: ActivationStore, label: Label, a: str, b: str, shown: set[int]
) -> dict[str, Any]:
    there_M = np.flatnonzero(items.both(a, b))
    codes = {name: items.codes["independent"][name][there_M] for name in (a, b)}
    rows_M = items.rows_N[there_M]
    counts = _counts(codes[a], codes[b])
    firing_C = (counts.a_C >= MIN_FIRES) & (counts.b_C >= MIN_FIRES)
    expected_C = counts.a_C * counts.b_C / max(1, counts.items)
    return {
        "items": counts.items,
        "nothing_shared": int((jaccard(codes[a], codes[b]) == 0).sum()),
        "in_both": int(firing_C.sum()),
        "other_items": int((firing_C & (counts.both_C <= expected_C)).sum()),
        "only": {
            name: _one_sided(codes[name], one_C, other_C, rows_M, store, label)
            for name, one_C, other_C in (
                (a, counts.a_C, counts.b_C),
                (b, counts.b_C, counts.a_C),
            )
        },
        "apart": _apart(codes, rows_M, store, label, shown),
    }


def _counts(codes_a: csr_array, codes_b: csr_array) -> _Counts:
    set_a, set_b = active(codes_a), active(codes_b)
    sums = (np.asarray(each.sum(axis=0)).ravel() for each in (set_a, set_b, set_a.multiply(set_b)))
    return _Counts(*sums, items=len(codes_a.indptr) - 1)


def _one_sided(
    codes: csr_array,
    one_C: np.ndarray,
    other_C: np.ndarray,
    rows_M: np.ndarray,
    store: ActivationStore,
    label: Label,
) -> dict[str, Any]:
    """Concepts of one stream that the other hardly ever fires: how many, and the most frequent."""
    own_C = (one_C >= MIN_FIRES) & (other_C < ONE_SIDED * one_C)
    order = sorted(np.flatnonzero(own_C).tolist(), key=lambda c: (-int(one_C[c]), c))
    by_concept = codes.tocsc()
    examples = []
    for concept in order[:CONCEPTS]:
        part = slice(by_concept.indptr[concept], by_concept.indptr[concept + 1])
        places = by_concept.indices[part][_strongest_first(by_concept.data[part])[:EXAMPLES]]
        examples.append(
            _named(concept, label)
            | {
                "fires": int(one_C[concept]),
                "other_fires": int(other_C[concept]),
                "items": [_item(store, int(rows_M[place])) for place in places],
            }
        )
    return {"concepts": int(own_C.sum()), "fire": int((one_C >= MIN_FIRES).sum())} | {
        "examples": examples
    }


def _apart(
    codes: dict[str, csr_array],
    rows_M: np.ndarray,
    store: ActivationStore,
    label: Label,
    shown: set[int],
) -> list[dict[str, Any]]:
    """Items on which the streams agree least; none twice on the page."""
    a, b = codes
    jaccard_M = jaccard(codes[a], codes[b])
    order = [int(place) for place in np.argsort(jaccard_M, kind="stable")]
    found = []
    for place in order:
        row = int(rows_M[place])
        if len(found) == ITEMS or np.isnan(jaccard_M[place]):
            break
        if row in shown:
            continue
        shown.add(row)
        strongest = {name: _strongest(each, place) for name, each in codes.items()}
        shared = [c for c in strongest[a] if c in set(strongest[b])]
        found.append(
            _item(store, row)
            | {
                "jaccard": float(jaccard_M[place]),
                "active": {name: len(each) for name, each in strongest.items()},
                "shared": [_named(c, label) for c in shared],
                "only": {
                    name: _varied([_named(c, label) for c in each if c not in shared])[:STRONGEST]
                    for name, each in strongest.items()
                },
            }
        )
    return found


def _varied(concepts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each name once: several concepts may have the same, and tell no more for it."""
    names = {each["label"] or each["concept"]: each for each in reversed(concepts)}
    return list(reversed(names.values()))


def _strongest(codes: csr_array, place: int) -> list[int]:
    """Active concepts of an item, strongest first."""
    part = slice(codes.indptr[place], codes.indptr[place + 1])
    return [int(c) for c in codes.indices[part][_strongest_first(codes.data[part])]]


def _strongest_first(values_M: Any) -> np.ndarray:
    return np.argsort(np.negative(values_M), kind="stable")


def _named(concept: int, label: Label) -> dict[str, Any]:
    return {"concept": int(concept), "label": label(int(concept))}


def _item(store: ActivationStore, row: int) -> dict[str, Any]:
    known = store.row(row)
    return {"item": known.id, "caption": known.captions[0] if known.captions else None}
