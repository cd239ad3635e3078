"""Verdicts in words that a person can act on: which concepts, by how much, how sure."""

from __future__ import annotations

from collections.abc import Mapping

from koine.drift.cofiring import ChangedPair
from koine.drift.verdict import ChangedConcept, Verdict


def sentence(verdict: Verdict, labels: Mapping[int, str], most: int = 5) -> str:
    """A verdict in one line: "dog ×0.4 (2.1 % → 0.8 %), night scene ×3.0 (…), and 4 more"."""
    if verdict.state in ("insufficient_data", "no_reference"):
        return f"no verdict: {verdict.reason}"
    if verdict.state == "ok":
        return f"nothing changed beyond chance in {verdict.items:,} items"
    parts = [changed(one, labels) for one in verdict.concepts[:most]]
    if len(verdict.concepts) > most:
        parts.append(f"and {len(verdict.concepts) - most} more")
    parts += [changed_pair(one, labels) for one in verdict.pairs[:most]]
    if len(verdict.pairs) > most:
        parts.append(f"and {len(verdict.pairs) - most} more pairs")
    parts += [
        f"{one.name} {one.then:.3g} → {one.now:.3g}" for one in verdict.statistics if one.drifted
    ]
    return ", ".join(parts)


def changed(one: ChangedConcept, labels: Mapping[int, str]) -> str:
    """One concept's change."""
    name = labels.get(one.id, f"concept {one.id}")
    rates = f"{percent(one.rate_then)} → {percent(one.rate_now)}"
    if one.kind in ("new", "vanished"):
        return f"{name} {one.kind} ({rates})"
    return f"{name} ×{_short(one.ratio)} ({rates})"


def changed_pair(one: ChangedPair, labels: Mapping[int, str]) -> str:
    """One pair's change."""
    a, b = (labels.get(c, f"concept {c}") for c in (one.a, one.b))
    return f"{a} with {b} ×{_short(one.ratio)} ({percent(one.rate_then)} → {percent(one.rate_now)})"


def interval(one: ChangedConcept) -> str:
    """What the ratio may be."""
    high = "∞" if one.high == float("inf") else _short(one.high)
    return f"×{_short(one.low)} to ×{high}"


def percent(rate: float) -> str:
    """A share of items with two digits that say something."""
    return f"{100 * rate:.2g} %"


def _short(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}"
