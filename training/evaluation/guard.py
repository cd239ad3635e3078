"""Says in words when figures of alignment look better than the dictionary behind them is.

A dictionary whose items all share a few concepts agrees with itself, retrieves nothing new and
explains little. Agreement alone does not show it; usage, dead latents, chance and FVU do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

HIGH_AGREEMENT = 0.2
"""Adjusted agreement that looks like alignment; below it there is nothing to mistrust."""
LOW_USAGE = 0.25
"""Of `num_concepts`: perplexity of the firing frequencies."""
MANY_DEAD = 0.05
"""Of `num_concepts`."""
HIGH_CHANCE = 0.15
"""Jaccard of the concepts of two different items."""
POOR_FVU = 0.9
"""FVU, own or other stream, at which codes hardly say more than the mean does."""


def collapse_warnings(figures: dict[str, Any], num_concepts: int) -> list[str]:
    """Of one mode's figures: a sentence for each one that parts from the agreement."""
    adjusted = figures["active_jaccard_adjusted"]["mean"]
    said = _said(figures, num_concepts)
    return [f"Adjusted agreement is {adjusted:.2f}, but {each.exact}." for each in said]


def plain_warnings(figures: dict[str, Any], num_concepts: int) -> list[str]:
    """The same for a reader who knows none of the measures."""
    return [each.plain for each in _said(figures, num_concepts)]


class _Warning(NamedTuple):
    exact: str
    plain: str


def _said(figures: dict[str, Any], num_concepts: int) -> list[_Warning]:
    adjusted = figures["active_jaccard_adjusted"]["mean"]
    if adjusted is None or adjusted < HIGH_AGREEMENT:
        return []
    return [*_usage(figures, num_concepts), *_chance(figures), *_reconstruction(figures)]


def _usage(figures: dict[str, Any], num_concepts: int) -> Iterable[_Warning]:
    for stream, used in figures["usage"].items():
        if used is not None and used < LOW_USAGE * num_concepts:
            yield _Warning(
                f"`{stream}` really uses only {used:,.0f} of {num_concepts:,} concepts (perplexity "
                f"of its firing frequencies; {LOW_USAGE:.0%} would not be mentioned): "
                "few concepts agree easily",
                f"{stream} speaks with so few words that agreeing is easy: its firings are as "
                f"varied as {used:,.0f} equally frequent concepts would be, of {num_concepts:,}.",
            )
    dead = figures["latents"]["dead"]
    if dead > MANY_DEAD * num_concepts:
        share = f"{dead:,} of {num_concepts:,} concepts ({dead / num_concepts:.0%})"
        yield _Warning(
            f"{share} never fire", f"{share} never occur: the dictionary is smaller than it says."
        )


def _chance(figures: dict[str, Any]) -> Iterable[_Warning]:
    chance = figures["active_jaccard_shuffled"]["mean"]
    if chance is not None and chance > HIGH_CHANCE:
        yield _Warning(
            f"different items share concepts too (Jaccard {chance:.2f} between unrelated items)",
            "Items that have nothing to do with each other share concepts too: a part of the "
            "agreement says nothing about the item.",
        )


def _reconstruction(figures: dict[str, Any]) -> Iterable[_Warning]:
    for own, words in ((True, "its own codes"), (False, "other streams' codes")):
        values: dict[str, list[float]] = {}
        for key, fvu in figures["fvu"].items():
            source, target = key.split("->")
            if (source == target) == own and fvu is not None:
                values.setdefault(target, []).append(fvu)
        for stream, each in values.items():
            fvu = sum(each) / len(each)
            if fvu > POOR_FVU:
                source = "its own concepts" if own else "the other models' concepts"
                yield _Warning(
                    f"{words} rebuild `{stream}` hardly better than its mean (FVU {fvu:.2f})",
                    f"Rebuilt from {source}, {stream} looks hardly more like itself than the "
                    "average item does: the concepts agree about little.",
                )
