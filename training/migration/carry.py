"""What people said of a dictionary's concepts, as edits of another's: states in, edits out.

Knows neither files nor how concepts were matched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from koine.concepts import Status
from koine.labels import Change, Edit, Shown, State
from training.migration.match import Match

LABEL_FROM, VERIFIED_FROM = 0.5, 0.8
"""Confidence from which a label, and from which a person's judgement of it, goes over."""


def carried(
    old: Sequence[Shown],
    new: Sequence[Shown],
    matches: Iterable[Match],
    *,
    history: Mapping[int, Sequence[Change]],
    source: str,
    label_from: float = LABEL_FROM,
    verified_from: float = VERIFIED_FROM,
) -> list[Edit]:
    """Edits that give the new concepts the old ones' labels where the match is sure enough.

    What a person said of a new concept stays; `history` holds its changes so far. A judgement
    below `verified_from` goes over as a proposal. A rejection says that a proposed label is wrong:
    it goes over where the new concept has that very proposal, and the match is as sure. Every edit
    names `source` and the old concept, has the match's confidence, and holds only for the revision
    in `new`. What was carried before as it would be now is left out.
    """
    edits: list[Edit] = []
    for m in matches:
        known = new[m.new]
        if m.confidence < label_from or _judged(known, history.get(m.new, ())):
            continue
        state = _state(old[m.old], known, sure=m.confidence >= verified_from)
        if state is None:
            continue
        edit = Edit(
            concept=m.new,
            status=state.status,
            label=state.label,
            expected=known.revision,
            source=f"{source}, concept {m.old}",
            confidence=round(m.confidence, 4),
        )
        before = (known.state, known.proposed_by, known.confidence)
        if before != (state, edit.source, edit.confidence):
            edits.append(edit)
    return edits


def _judged(shown: Shown, changes: Sequence[Change]) -> bool:
    """By a person, in this dictionary."""
    if changes:
        return changes[-1].source is None
    return shown.state.status in ("verified", "rejected", "renamed")


def _state(old: Shown, new: Shown, *, sure: bool) -> State | None:
    """What the new concept gets; None where it stays."""
    label, status = old.state.label, old.state.status
    if status == "rejected":
        return State(status="rejected") if sure and old.proposed == new.proposed else None
    if label is None:
        return None
    kept: Status = status if sure else "proposed"
    return State(label=label, status=kept)
