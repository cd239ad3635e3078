"""`migrate`: two dictionaries → which concept became which, as data; carries no label itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from koine.concepts import Concept
from koine.errors import DataError
from training.activations.store import ActivationStore
from training.migration.match import (
    Evidence,
    Match,
    direction,
    firing,
    label_of_each,
    match,
    shuffled,
)
from training.migration.sides import Coded, Side

SCHEMA = "koine.migration/1"
MAX_ROWS = 20_000
"""Training items whose codes are compared, evenly spread."""
BINS = (0.0, 0.25, 0.5, 0.65, 0.8, 0.9, 1.0 + 1e-9)
"""Edges of confidence by which matches are counted."""


class Migration(NamedTuple):
    """Which concept became which."""

    matches: list[Match]
    """By old id."""
    levels: dict[str, float]
    """What chance reaches, by kind of evidence."""
    items: int
    """Items whose codes were compared."""
    labels: list[dict[str, Any]] | None
    """By confidence: share of matches in which both concepts follow the same label of held-out
    items, and the same for shuffled matches; None without a store that has labels."""
    held_out: list[float | None] | None = None
    """By confidence: share of matches whose new concept is, of all, the one that fires most like
    the old one on held-out items; None without a store that links the two."""


def migrate(old: Side, new: Side, store: ActivationStore | None, *, seed: int = 0) -> Migration:
    """Match the concepts; `store` holds items that both can encode.

    Without it directions alone decide. Raises DataError where the two share no stream and the
    store does not link them, or a stream's width is not the dictionary's.
    """
    evidence: list[Evidence] = []
    items, labels = 0, None
    if store is not None:
        _check_widths(store, old, new)
        rows_N = store.split("train")
        rows_N = rows_N[:: max(1, -(-len(rows_N) // MAX_ROWS))]
        pairs = _linked(old.encode(store, rows_N), new.encode(store, rows_N))
        items = len(rows_N)
        if pairs:
            evidence.append(firing([a for a, _ in pairs], [b for _, b in pairs], seed))
    by_direction = direction(old.directions, new.directions, seed)
    if by_direction is not None:
        evidence.append(by_direction)
    if not evidence:
        raise DataError(
            f"`{old.path}` ({', '.join(old.widths)}) and `{new.path}` ({', '.join(new.widths)}) "
            "share no stream, and no store links them: give `--store` with streams of both"
        )
    matches = match(evidence)
    levels = {e.kind: round(e.level, 4) for e in evidence}
    if store is None or evidence[0].kind != "firing":
        return Migration(matches, levels, items, None)
    test_N = store.split("test")
    old_codes, new_codes = old.encode(store, test_N), new.encode(store, test_N)
    held_out = _held_out(_linked(old_codes, new_codes), matches)
    if store.label_names:
        follows = [
            label_of_each(list(codes.values()), store.labels(test_N))
            for codes in (old_codes, new_codes)
        ]
        labels = _label_agreement(follows, matches, seed)
    return Migration(matches, levels, items, labels, held_out)


def unmatched(count: int, found: Sequence[int]) -> list[int]:
    """Concepts of one side that have no counterpart."""
    return sorted(set(range(count)) - set(found))


def as_json(
    old: Side, new: Side, migration: Migration, store: ActivationStore | None, least: float
) -> dict[str, Any]:
    """The content of `migration.json`; pairs below `least` have no counterpart."""
    sure = [m for m in migration.matches if m.confidence >= least]
    concepts = old.concepts
    return {
        "schema": SCHEMA,
        "created": datetime.now(UTC).replace(microsecond=0).isoformat(),
        "old": {"digest": old.digest, "num_concepts": old.num_concepts},
        "new": {"digest": new.digest, "num_concepts": new.num_concepts},
        "store": None if store is None else f"sha256:{store.fingerprint}",
        "items": migration.items,
        "least_confidence": least,
        "chance_levels": migration.levels,
        "matches": [_entry(m, concepts) for m in sure],
        "only_old": unmatched(old.num_concepts, [m.old for m in sure]),
        "only_new": unmatched(new.num_concepts, [m.new for m in sure]),
        "by_confidence": _counts(migration),
        "label_agreement": migration.labels,
    }


def summary(content: dict[str, Any]) -> str:
    """What `migration.json` says, in a few lines."""
    found, least = content["matches"], content["least_confidence"]
    lines = [
        f"{len(found):,} of {content['old']['num_concepts']:,} concepts have a counterpart among "
        f"{content['new']['num_concepts']:,} (confidence at least {least:g}); without one: "
        f"{len(content['only_old']):,} old, {len(content['only_new']):,} new",
    ]
    agreement = {tuple(row["confidence"]): row for row in content["label_agreement"] or ()}
    for row in content["by_confidence"]:
        low, high = row["confidence"]
        line = f"  confidence {low:.2f} to {high:.2f}: {row['matches']:,} matches"
        if row["best_on_held_out"] is not None:
            line += f", the best on held-out items in {row['best_on_held_out']:.0%}"
        said = agreement.get((low, high))
        if said and said["same_label"] is not None:
            line += f", same label in {said['same_label']:.0%} ({said['shuffled']:.0%} if shuffled)"
        lines.append(line)
    return "\n".join(lines)


def _entry(m: Match, concepts: Sequence[Concept] | None) -> dict[str, Any]:
    return {
        "old": m.old,
        "new": m.new,
        "confidence": round(m.confidence, 4),
        "firing": None if m.firing is None else round(m.firing, 4),
        "direction": None if m.direction is None else round(m.direction, 4),
        "mutual": m.mutual,
        "label": concepts[m.old].label if concepts else None,
    }


def _bins() -> list[tuple[float, float]]:
    return list(zip(BINS[:-1], BINS[1:], strict=True))


def _counts(migration: Migration) -> list[dict[str, Any]]:
    shares = migration.held_out or [None] * len(_bins())
    return [
        {
            "confidence": [low, min(high, 1.0)],
            "matches": sum(low <= m.confidence < high for m in migration.matches),
            "best_on_held_out": share,
        }
        for (low, high), share in zip(_bins(), shares, strict=True)
    ]


def _linked(old: Coded, new: Coded) -> list[tuple[Any, Any]]:
    """Codes of the streams that both have; of every pair of streams where they share none."""
    shared = [name for name in old if name in new]
    if shared:
        return [(old[name], new[name]) for name in shared]
    return [(a, b) for a in old.values() for b in new.values()]


def _check_widths(store: ActivationStore, *sides: Side) -> None:
    for side in sides:
        for spec in store.streams:
            if spec.name in side.widths and side.widths[spec.name] != spec.d_in:
                raise DataError(
                    f"stream `{spec.name}` is {spec.d_in} wide in `{store.path}`, "
                    f"{side.widths[spec.name]} in `{side.path}`: give a store of its encoders"
                )


def _held_out(pairs: list[tuple[Any, Any]], matches: Sequence[Match]) -> list[float | None]:
    found = firing([a for a, _ in pairs], [b for _, b in pairs], seed=0)
    shares: list[float | None] = []
    for low, high in _bins():
        part = [m for m in matches if low <= m.confidence < high]
        fires = [m for m in part if found.known_AB[m.old].any()]
        right = [found.alike_AB[m.old].argmax() == m.new for m in fires]
        shares.append(float(np.mean(right)) if right else None)
    return shares


def _label_agreement(
    follows: Sequence[Int64[np.ndarray, "C"]], matches: Sequence[Match], seed: int
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for low, high in _bins():
        part = [m for m in matches if low <= m.confidence < high]
        rows.append(
            {
                "confidence": [low, min(high, 1.0)],
                "same_label": _same(part, *follows),
                "shuffled": _same(shuffled(part, seed), *follows),
            }
        )
    return rows


def _same(matches: Sequence[Match], old_C: np.ndarray, new_C: np.ndarray) -> float | None:
    known = [m for m in matches if old_C[m.old] >= 0 and new_C[m.new] >= 0]
    if not known:
        return None
    return float(np.mean([old_C[m.old] == new_C[m.new] for m in known]))
