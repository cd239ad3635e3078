"""The bench's figures, one line each, taken from a dictionary's figures; measures nothing.

Pairs of streams are averaged by type: those of one modality ("image-image") apart from those that
cross modalities ("image-text"), which are the harder and the more useful ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from training.evaluation.lines import mean
from training.evaluation.probes import SIZES

Figures = dict[str, Any]
Pairs = list[str]


class Line(NamedTuple):
    """A row of the table."""

    key: str
    title: str
    value: Callable[[Figures], float | None]
    raw: Callable[[Figures], float | None] | None = None
    """The same from raw activations, where that has a meaning."""
    chance: Callable[[Figures], float | None] | None = None
    """What a random order or an unrelated item gives, from a dictionary's figures."""
    whole: bool = False
    """Shown without decimals."""


def lines_of(types: dict[str, Pairs], figures: Figures) -> list[Line]:
    """All lines that these figures can have a value for."""
    lines = [Line("fvu_own", "FVU, own stream ↓", _fvu_own)]
    lines += [_cross_fvu(kind, pairs) for kind, pairs in types.items()]
    for kind, pairs in types.items():
        lines += _agreement(kind, pairs)
    if figures["label_jaccard"]:
        for key, words in (("alive", "latents alive"), ("all", "all latents")):
            lines.append(Line(f"label_jaccard_{key}", f"Label Jaccard, {words} ↑", _label(key)))
    for kind, pairs in types.items():
        lines += _retrieval(kind, pairs)
    lines += _LATENTS
    if any((figures["probe"] or {}).values()):
        for size in SIZES:
            lines += _probe(size)
    lines += _MEANING if figures["label_purity"] else _MEANING[:1]
    lines.append(Line("firing_entropy", "Firing entropy over streams ↑", _plain("firing_entropy")))
    return lines


def spread(values: Iterable[float | None]) -> dict[str, float | None]:
    """Mean and sample standard deviation; the latter is None below two values."""
    known = [value for value in values if value is not None]
    return {
        "mean": float(np.mean(known)) if known else None,
        "spread": float(np.std(known, ddof=1)) if len(known) > 1 else None,
    }


def directions(pairs: Pairs) -> list[str]:
    """Both directions of each pair: "a|b" → "a->b", "b->a"."""
    return ["->".join(names) for pair in pairs for names in _both(pair)]


def _both(pair: str) -> tuple[list[str], list[str]]:
    names = pair.split("|")
    return names, names[::-1]


def _fvu_own(figures: Figures) -> float | None:
    pairs = [(key.split("->"), value) for key, value in figures["fvu"].items()]
    return mean(value for (a, b), value in pairs if a == b)


def _over(key: str, pairs: list[str], inner: str | None = None) -> Callable[[Figures], Any]:
    def value(figures: Figures) -> float | None:
        each = [figures[key][pair] for pair in pairs]
        return mean(one and one[inner] if inner else one for one in each)

    return value


def _cross_fvu(kind: str, pairs: Pairs) -> Line:
    over = _over("fvu", directions(pairs))
    return Line(f"fvu_cross_{kind}", f"FVU, other stream, {kind} ↓", over, raw=over)


def _agreement(kind: str, pairs: Pairs) -> list[Line]:
    return [
        Line(
            f"agreement_{kind}",
            f"Active Jaccard, {kind} ↑",
            _over("active_jaccard", pairs),
        ),
        Line(
            f"agreement_chance_{kind}",
            f"… of unrelated items (chance), {kind} ↓",
            _over("active_jaccard_shuffled", pairs),
        ),
        Line(
            f"agreement_adjusted_{kind}",
            f"… adjusted for chance, {kind} ↑",
            _over("active_jaccard_adjusted", pairs),
        ),
    ]


def _retrieval(kind: str, pairs: Pairs) -> list[Line]:
    ways = directions(pairs)
    titles = {"r1": "R@1", "r5": "R@5", "r10": "R@10", "medr": "Median rank", "mrr": "MRR"}

    def raw(inner: str) -> Callable[[Figures], float | None]:
        return lambda figures: mean(
            (found := figures["retrieval"][way]["ridge"]) and found[inner] for way in ways
        )

    lines = [
        Line(
            f"{inner}_{kind}",
            f"{title}, {kind} {'↓' if inner == 'medr' else '↑'}",
            _over("retrieval", ways, inner),
            raw(inner),
            _over("retrieval_chance", ways, inner),
        )
        for inner, title in titles.items()
    ]
    error = _over("retrieval", ways, "r10_se")
    lines.insert(3, Line(f"r10_se_{kind}", f"… R@10's standard error over items, {kind}", error))
    return lines


def _label(key: str) -> Callable[[Figures], float | None]:
    return lambda figures: figures["label_jaccard"][key]


def _plain(key: str) -> Callable[[Figures], float | None]:
    return lambda figures: figures[key]


def _count(key: str) -> Callable[[Figures], float | None]:
    return lambda figures: float(figures["latents"][key])


def _streams(key: str, inner: str | None = None) -> Callable[[Figures], float | None]:
    return lambda figures: mean(
        each and each[inner] if inner else each for each in figures[key].values()
    )


def _above(key: str, inner: str, chance: str) -> Callable[[Figures], float | None]:
    return lambda figures: mean(
        None if each[inner] is None else each[inner] - each[chance]
        for each in figures[key].values()
    )


def _probe(size: int) -> list[Line]:
    words = "concept" if size == 1 else "concepts"

    def of(inner: str) -> Callable[[Figures], float | None]:
        return lambda figures: mean(
            each and each[f"k{size}"][inner] for each in figures["probe"].values()
        )

    def raw(inner: str) -> Callable[[Figures], float | None]:
        return lambda figures: mean(
            each and each[inner] for each in (figures["probe"] or {}).values()
        )

    return [
        Line(f"probe{size}_{inner}", f"Probe on {size} {words}, {title} ↑", of(inner), raw(inner))
        for inner, title in (("auc", "AUC"), ("balanced_accuracy", "balanced accuracy"))
    ]


_LATENTS = [
    Line("dead", "Latents dead ↓", _count("dead"), whole=True),
    Line("mixed", "Latents mixed ↓", _count("mixed"), whole=True),
    Line("alive", "Latents alive ↑", _count("alive"), whole=True),
    Line("dense", "Latents dense ↓", _count("dense"), whole=True),
    Line("usage", "Concepts in real use (perplexity) ↑", _streams("usage"), whole=True),
    Line("l0", "Active concepts an item (L0)", _streams("l0")),
]
_MEANING = [
    Line(
        "monosemanticity",
        "Monosemanticity above chance, own encoder ↑",
        _above("monosemanticity", "own", "own_chance"),
    ),
    Line("purity", "Label purity above chance ↑", _above("label_purity", "mean", "chance")),
    Line(
        "label_recovery",
        "Label recovery, mean Jaccard ↑",
        _streams("label_recovery", "mean_jaccard"),
    ),
]
