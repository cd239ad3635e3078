"""A change of a label as the audit log keeps it; writes none."""

from __future__ import annotations

from koine.audit.events import LabelEvent
from koine.labels.changes import Change


def label_event(change: Change, dictionary: str) -> LabelEvent:
    """The event of a change to the artifact with that digest; reasons stay in the layer."""
    return LabelEvent(
        dictionary=dictionary,
        concept=change.concept,
        before=change.before.label,
        after=change.after.label,
        status=change.after.status,
        person=change.person,
    )
