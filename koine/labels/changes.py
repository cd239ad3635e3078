"""One change of a concept's label: what may follow on what; knows no file.

A person verifies, rejects or renames what is proposed, or withdraws that. What is proposed is the
artifact's own label, or the one that was last carried over from another dictionary.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, Field

from koine.concepts import Concept, Status
from koine.errors import RequestError
from koine.streams import Spec

MOST_LABEL, MOST_REASON = 200, 2000
"""Characters."""
PERSON = "person"
"""`source` of a label that a person gave."""


class State(Spec):
    """What a concept is called, and how sure that is."""

    label: str | None = None
    status: Status = "unnamed"


def _without_controls(text: str) -> str:
    if any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in text):
        raise ValueError("must have no control characters or line ends")
    return text


Line = Annotated[str, AfterValidator(_without_controls)]


class Change(Spec):
    """One line of a layer."""

    revision: int = Field(ge=1)
    """Its number in the layer, from 1."""
    until: int = Field(ge=1)
    """Revision of the last change that was written together with this one: all count, or none."""
    concept: int = Field(ge=0)
    before: State
    after: State
    person: Line = Field(min_length=1, max_length=200)
    """Who made it: an API key's name and id, or a given name."""
    time: AwareDatetime
    reason: str | None = Field(default=None, max_length=MOST_REASON)
    source: str | None = Field(default=None, max_length=MOST_LABEL)
    """Where the label comes from, such as `migrated from demo@1`; None for a person's own."""
    confidence: float | None = Field(default=None, ge=0, le=1)
    """How sure the source is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Edit:
    """What somebody wants of one concept."""

    concept: int
    status: Status
    label: str | None = None
    reason: str | None = None
    expected: int | None = None
    """The concept's revision that the person saw; None overwrites whatever is there."""
    source: str | None = None
    """Set where a label is carried over: it is taken as it is, and proposed from then on."""
    confidence: float | None = None


class Shown(Spec):
    """A concept's state in a layer."""

    state: State
    proposed: str | None = None
    """The label that a withdrawal goes back to: the artifact's, or what was carried over last."""
    proposed_by: str | None = None
    """What gave it."""
    confidence: float | None = None
    """How sure that is, where it was carried over."""
    revision: int = 0
    """Of its last change; 0 where it has none."""

    @classmethod
    def of(cls, concept: Concept) -> Shown:
        """What the artifact says."""
        state = State(label=concept.label, status=concept.status)
        return cls(state=state, proposed=concept.label, proposed_by=concept.source)

    @property
    def source(self) -> str | None:
        """What gave the label; None where there is none."""
        if self.state.label is None:
            return None
        return self.proposed_by if self.state.label == self.proposed else PERSON

    def after(self, change: Change) -> Shown:
        """The same with one more change."""
        fields: dict[str, object] = {"state": change.after, "revision": change.revision}
        if change.source is not None:
            fields |= {"proposed": change.after.label, "proposed_by": change.source}
            fields |= {"confidence": change.confidence}
        return self.model_copy(update=fields)


def outcome(shown: Shown, edit: Edit) -> State:
    """The state that an edit leads to. Raises `RequestError` where it makes no sense."""
    label = None if edit.label is None else " ".join(edit.label.split()) or None
    _check_text("label", label, MOST_LABEL)
    _check_text("reason", edit.reason, MOST_REASON)
    if edit.source is not None:
        return _carried(edit.status, label)
    if edit.status == "renamed":
        return _renamed(shown, label)
    found, current = edit.status, shown.state.label
    offered = current or shown.proposed
    kept = {"verified": offered, "proposed": shown.proposed}.get(found)
    if label is not None and label not in {kept, current if found == "rejected" else kept}:
        raise RequestError(
            f"the label {label!r} is not the one that `{found}` leaves ({_told(kept)}); to give a "
            "concept another label set the status `renamed`"
        )
    if found == "unnamed" and shown.proposed is not None:
        raise RequestError(
            f"the label {shown.proposed!r} is proposed for this concept; set `proposed` to go "
            "back to it, or `rejected`"
        )
    if found != "unnamed" and offered is None:
        instead = "set `unnamed`" if found == "proposed" else "set `renamed` and give it a label"
        raise RequestError(f"nothing is proposed that could be `{found}`; {instead}")
    if found == "proposed" and kept is None:
        raise RequestError("nothing is proposed for this concept; set `unnamed`")
    return State(label=kept, status=found)


def _renamed(shown: Shown, label: str | None) -> State:
    if label is None:
        raise RequestError("`renamed` needs a label; give the new one")
    if label == shown.state.label and shown.state.status != "renamed":
        raise RequestError(f"{label!r} is its label already; set `verified` to confirm it")
    return State(label=label, status="renamed")


def _carried(status: Status, label: str | None) -> State:
    if (label is None) != (status in ("unnamed", "rejected")):
        raise RequestError(f"the status `{status}` cannot go with the label {_told(label)}")
    return State(label=label, status=status)


def _check_text(name: str, text: str | None, most: int) -> None:
    if text is None:
        return
    if len(text) > most:
        raise RequestError(f"`{name}` has {len(text)} characters, at most {most} are kept")
    try:
        # a reason may have lines; the rest of a terminal's controls may not
        _without_controls(text.replace("\n", " ").replace("\t", " ") if name == "reason" else text)
    except ValueError as error:
        raise RequestError(f"`{name}` {error}; got {text[:80]!r}") from None


def _told(label: str | None) -> str:
    return "none" if label is None else repr(label)


def stamp(moment: datetime) -> str:
    """A time as tables show it."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
