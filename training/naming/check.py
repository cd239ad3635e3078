"""How good names are, on held-out items, as Markdown tables; makes names, keeps none.

By labels, where the store has some: names are made from training captions and the text encoder
alone, the truth from the labels of held-out items, so neither knows of the other. By captions: how
much more often a name stands in the captions of held-out items on which its concept fires. Beside
both stand shuffled names, each given to another concept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from training.naming.choose import Proposal
from training.naming.config import NamingConfig
from training.naming.judges import borne_out, label_terms, nearly_best, truth
from training.naming.naming import Opened, proposals_of, see_rows, text_streams, train_items
from training.naming.seen import Seen
from training.naming.vocabulary import Term

MIN_FIRES = 50
"""Training items, in some stream, on which a concept fires that is judged."""
BANDS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.01)
THRESHOLDS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9)


class Tried(NamedTuple):
    """Names by one set of routes, with no threshold on the score."""

    terms: Sequence[Term]
    term_C: np.ndarray
    """The best term, -1 where there is none."""
    held_C: np.ndarray
    """Whether it fits better than by chance."""
    score_C: np.ndarray


def check(opened: Opened, config: NamingConfig) -> str:
    """What was measured; on the rows of `val` and `test`."""
    blind = dataclasses.replace(config, labels=False, min_score=0.0)
    train = train_items(opened, blind)
    rows = [opened.store.split(split) for split in ("val", "test")]
    items = see_rows(opened, np.sort(np.concatenate(rows)), "held-out items")
    most_C = np.max([np.diff(codes.tocsc().indptr) for codes in train.codes.values()], axis=0)
    judged_C = most_C >= MIN_FIRES
    tried = _tried(proposals_of(opened, train, blind))
    parts = [
        f"{int(judged_C.sum())} of {len(judged_C)} concepts fire on {MIN_FIRES} or more training "
        f"items of some stream and are judged, on {len(items.rows)} held-out items."
    ]
    if opened.store.label_names:
        alone = dataclasses.replace(blind, routes="direction")
        tries = {config.routes: tried}
        if config.routes == "both" and text_streams(opened):
            tries["direction alone"] = _tried(proposals_of(opened, train, alone))
        parts += _by_labels(opened, items, judged_C, tries)
    parts += _by_captions(items, judged_C, tried, config.min_score)
    return "\n\n".join(parts)


def _tried(found: tuple[list[Term], list[Proposal]]) -> Tried:
    terms, proposals = found
    return Tried(
        terms,
        np.array([-1 if p.best is None else p.best for p in proposals]),
        np.array([p.term is not None for p in proposals]),
        np.array([p.score for p in proposals]),
    )


def _by_labels(
    opened: Opened, items: Seen, judged_C: np.ndarray, tried: dict[str, Tried]
) -> list[str]:
    names = opened.store.label_names
    found = truth(items, names)
    rows: list[list[str]] = []
    bands: list[list[str]] = []
    for routes, each in tried.items():
        right_TL = label_terms(each.terms, names, synonyms_of(opened.recipe))
        right_C = right_TL[each.term_C, found.label_C] & (each.term_C >= 0)
        everything_C = judged_C & (each.term_C >= 0)
        choices = {"never left out": everything_C} | {
            f"score ≥ {least}": everything_C & each.held_C & (each.score_C >= least)
            for least in THRESHOLDS
        }
        for title, named_C in choices.items():
            shuffled = right_TL[each.term_C[named_C]][:, found.label_C[named_C]]
            rows.append([routes, title, *_shares(named_C, right_C, found.fits_C, shuffled)])
        for band in _bands(everything_C & each.held_C, right_C, each.score_C):
            bands.append([routes, *band])
    unfit = int((judged_C & ~found.fits_C).sum())
    head = [
        "routes",
        "names kept",
        "named",
        "right",
        "fitting a label",
        "right of these",
        "shuffled",
    ]
    return [
        f"By labels: {len(names)} labels; {unfit} of the judged concepts fit none (p ≥ .01). "
        "`right` counts those as wrong, `right of these` leaves them out.",
        _table(head, rows),
        _table(["routes", "score", "names", "right"], bands),
    ]


def _shares(
    named_C: np.ndarray, right_C: np.ndarray, fits_C: np.ndarray, shuffled_MM: np.ndarray
) -> list[str]:
    fitting_C = named_C & fits_C
    count = len(shuffled_MM)
    others = int(shuffled_MM.sum() - np.trace(shuffled_MM))
    return [
        str(count),
        _share(right_C[named_C]),
        str(int(fitting_C.sum())),
        _share(right_C[fitting_C]),
        f"{others / (count * (count - 1)):.3f}" if count > 1 else "",
    ]


def _by_captions(items: Seen, judged_C: np.ndarray, tried: Tried, least: float) -> list[str]:
    where = items.where(tried.terms, labels=False)
    borne_C = nearly_best(items, where, np.maximum(0, tried.term_C))
    possible_C = judged_C & tried.held_C
    named_M = np.flatnonzero(possible_C & (tried.score_C >= least))
    order_M = np.random.default_rng(0).permutation(len(named_M))
    terms_M = tried.term_C[named_M]
    swapped_M = np.empty_like(terms_M)
    swapped_M[order_M] = terms_M[np.roll(order_M, 1)]
    rows: list[list[str]] = []
    for title, given_M in (("named", terms_M), ("shuffled", swapped_M)):
        for stream, found in borne_out(items, where, given_M, named_M).items():
            if found is None:
                continue
            lift = found.precision / found.rate
            figures = [found.precision, found.rate, lift, found.auc]
            rows.append([stream, title, str(found.concepts), *(f"{x:.3f}" for x in figures)])
    head = ["stream", "names", "concepts", "precision", "rate", "lift", "AUC"]
    return [
        f"By captions, names with a score of {least} or more: share of the items on which a "
        "concept fires that have its name in a caption, share of all items, their ratio, AUC.",
        _table(head, rows),
        "By captions: names that fit held-out items nearly as well as the best term does there.",
        _table(["score", "names", "borne out"], _bands(possible_C, borne_C, tried.score_C)),
    ]


def _bands(of_C: np.ndarray, right_C: np.ndarray, score_C: np.ndarray) -> list[list[str]]:
    rows: list[list[str]] = []
    for low, high in zip(BANDS, BANDS[1:], strict=False):
        in_C = of_C & (score_C >= low) & (score_C < high)
        rows.append([f"{low} to {min(high, 1.0)}", str(int(in_C.sum())), _share(right_C[in_C])])
    return rows


def synonyms_of(recipe: str | None) -> dict[str, tuple[str, ...]]:
    """Other words for a recipe's labels: the built-in corpus lists its own."""
    if recipe != "demo":
        return {}
    from training.demo.vocabulary import GROUPS

    return {label: words for group in GROUPS.values() for label, words in group.items()}


def _share(right_M: np.ndarray) -> str:
    return f"{right_M.mean():.3f}" if len(right_M) else ""


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
