"""The report's main figures, a line each, with what they mean; measures and prints nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import numpy as np

Figures = dict[str, Any]


class Line(NamedTuple):
    """One main figure: a row of the summary."""

    title: str
    short: str
    """For a narrow column."""
    better: Literal["lower", "higher", ""]
    says: str
    """What it means, for a reader who has not met it."""
    value: Callable[[Figures], float | None]
    main: bool = False
    """Whether it also stands in the comparison of dictionaries."""
    whole: bool = False
    """A count, shown without decimals."""

    def shown(self, figures: Figures) -> str:
        """The value as text, a dash where there is none."""
        value = self.value(figures)
        if value is None:
            return "–"
        if self.whole:
            return f"{value:,.0f}"
        return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _reconstruction(key: str, own: bool) -> Callable[[Figures], float | None]:
    def value(figures: Figures) -> float | None:
        pairs = [(*pair.split("->"), fvu) for pair, fvu in figures[key].items()]
        return mean(fvu for a, b, fvu in pairs if (a == b) == own)

    return value


def _in(key: str, inner: str) -> Callable[[Figures], float | None]:
    return lambda figures: figures[key][inner] if figures[key] else None


def _retrieval(key: str, inner: str) -> Callable[[Figures], float | None]:
    return lambda figures: mean(each[inner] for each in figures[key].values())


def _over_streams(key: str, inner: str | None = None) -> Callable[[Figures], float | None]:
    return lambda figures: mean(
        each[inner] if inner else each for each in (figures[key] or {}).values()
    )


def _above_chance(key: str, inner: str, chance: str) -> Callable[[Figures], float | None]:
    return lambda figures: mean(
        None if each[inner] is None else each[inner] - each[chance]
        for each in (figures[key] or {}).values()
    )


def _probe(size: int) -> Callable[[Figures], float | None]:
    return lambda figures: mean(
        each and each[f"k{size}"]["auc"] for each in (figures["probe"] or {}).values()
    )


LINES: tuple[Line, ...] = (
    Line(
        "FVU, own stream",
        "FVU own",
        "lower",
        "share of a stream's variance that is lost when it is rebuilt from its own codes; "
        "1 is no better than always answering the mean",
        _reconstruction("fvu", own=True),
        main=True,
    ),
    Line(
        "FVU, other stream",
        "FVU other",
        "lower",
        "the same when one stream is rebuilt from another one's codes",
        _reconstruction("fvu", own=False),
        main=True,
    ),
    Line(
        "Agreement of active concepts",
        "agreement",
        "higher",
        "Jaccard between the concepts that two streams activate for one item",
        _in("active_jaccard", "mean"),
    ),
    Line(
        "… of shuffled pairs (chance)",
        "chance",
        "lower",
        "the same between different items: what agrees without any meaning",
        _in("active_jaccard_shuffled", "mean"),
    ),
    Line(
        "… adjusted for chance",
        "agr. adj.",
        "higher",
        "0 is chance, 1 is full agreement",
        _in("active_jaccard_adjusted", "mean"),
        main=True,
    ),
    Line(
        "Label Jaccard, latents alive",
        "label J.",
        "higher",
        "whether a latent fires on the same labels in every stream (SPARC's measure), over latents "
        "that fire on labelled items in two streams or more",
        _in("label_jaccard", "alive"),
        main=True,
    ),
    Line(
        "Label Jaccard, all latents",
        "label J. all",
        "higher",
        "the same with all other latents counting 0",
        _in("label_jaccard", "all"),
    ),
    Line(
        "Retrieval R@1",
        "R@1",
        "higher",
        "how often an item's codes find the same item first in another stream",
        _retrieval("retrieval", "r1"),
    ),
    Line(
        "Retrieval R@10",
        "R@10",
        "higher",
        "… or among the first ten",
        _retrieval("retrieval", "r10"),
        main=True,
    ),
    Line(
        "… by chance",
        "chance",
        "",
        "R@10 of a random order",
        _retrieval("retrieval_chance", "r10"),
    ),
    Line(
        "Retrieval, median rank",
        "MedR",
        "lower",
        "median place of the right item",
        _retrieval("retrieval", "medr"),
    ),
    Line(
        "Label recovery, mean Jaccard",
        "label rec.",
        "higher",
        "overlap of each label with the one concept that fits it best, chosen on training rows",
        _over_streams("label_recovery", "mean_jaccard"),
        main=True,
    ),
    Line(
        "Label recovery, mean F1",
        "label F1",
        "higher",
        "the same as F1",
        _over_streams("label_recovery", "mean_f1"),
    ),
    Line(
        "Label probe on one concept, AUC",
        "probe 1",
        "higher",
        "a logistic probe of each label on the one concept chosen for it on training rows; .5 is "
        "chance",
        _probe(1),
    ),
    Line(
        "Label probe on 16 concepts, AUC",
        "probe 16",
        "higher",
        "the same on sixteen concepts",
        _probe(16),
    ),
    Line(
        "Label purity above chance",
        "purity",
        "higher",
        "how much more often a concept's firings carry its label than items do anyhow; the label "
        "is chosen on training rows",
        _above_chance("label_purity", "mean", "chance"),
    ),
    Line(
        "Monosemanticity above chance",
        "monosem.",
        "higher",
        "how much more alike (cosine of raw activations) the items of one concept are than any two",
        _above_chance("monosemanticity", "own", "own_chance"),
    ),
    Line(
        "Firing entropy over streams",
        "entropy",
        "higher",
        "1: every stream uses a concept equally often; 0: one stream alone does",
        lambda figures: figures["firing_entropy"],
    ),
    Line(
        "Latents dead",
        "dead",
        "lower",
        "never active in any stream, on the training rows",
        _in("latents", "dead"),
        main=True,
        whole=True,
    ),
    Line(
        "Latents mixed",
        "mixed",
        "lower",
        "active in some streams, never in others",
        _in("latents", "mixed"),
        main=True,
        whole=True,
    ),
    Line(
        "Latents alive",
        "alive",
        "higher",
        "active in every stream",
        _in("latents", "alive"),
        whole=True,
    ),
    Line(
        "Latents dense",
        "dense",
        "lower",
        "active on more than 10 % of the training rows of a stream: they say little about an item",
        _in("latents", "dense"),
        whole=True,
    ),
    Line(
        "Concepts in real use",
        "in use",
        "higher",
        "perplexity of the firing frequencies: the number of equally frequent concepts that would "
        "be as varied",
        _over_streams("usage"),
        main=True,
    ),
    Line(
        "Active concepts an item (L0)",
        "L0",
        "",
        "at most k",
        _over_streams("l0"),
    ),
)
