"""What the audit log keeps of each happening; never an image, a text or an activation."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, StringConstraints

from koine.streams import STREAM_NAME, Spec
from koine.types import Mode

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256, as hex."""
MOST_TEXT = 1024
Text = Annotated[str, StringConstraints(max_length=MOST_TEXT)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:@-]{0,127}$")]
"""ASCII, so that keys sort alike everywhere."""
StreamName = Annotated[str, StringConstraints(pattern=f"^{STREAM_NAME.pattern}$")]
Count = Annotated[int, Field(ge=0, le=2**53 - 1)]
"""Whole numbers that every JSON reader keeps exact."""
TraceId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]

MICRO = 1_000_000
"""Values are kept as whole millionths: a float has several spellings, a whole number has one."""


class ActiveConcept(NamedTuple):
    """One of the strongest concepts of an answer; a pair in JSON, since a log has many."""

    concept: Count
    micros: Count
    """Its value in millionths."""


class EncodeEvent(Spec):
    """One item encoded, or refused."""

    kind: Literal["encode"] = "encode"
    content: dict[Name, Digest] = Field(max_length=66)
    """Of each part of the item (`image`, `text`, `activations.STREAM`): `content_digest`."""
    dictionary: Digest
    """The artifact's digest."""
    mode: Mode = "independent"
    codes: dict[StreamName, tuple[ActiveConcept, ...]] = Field(default={}, max_length=64)
    """The strongest concepts of each stream, strongest first."""
    key: Name | None = None
    """Id of the API key, never the key."""
    latency_us: Count
    outcome: Name
    """`ok`, or the class of the error."""
    trace: TraceId | None = None


class LabelEvent(Spec):
    """A person's change of a concept's name."""

    kind: Literal["label"] = "label"
    dictionary: Digest
    concept: Count
    before: Text | None
    after: Text | None
    status: Literal["unnamed", "proposed", "verified", "rejected", "renamed"]
    person: Text
    """Who made the change, as the label layer has it."""
    key: Name | None = None
    trace: TraceId | None = None


class ArtifactEvent(Spec):
    """A dictionary that began or ceased to answer, or was refused."""

    kind: Literal["artifact"] = "artifact"
    action: Literal["loaded", "unloaded", "refused"]
    dictionary: Digest | None = None
    """None where the artifact could not be read."""
    title: Text
    """`name@version`, or the reason for which it was refused."""


class ConfigEvent(Spec):
    """The settings that the service began with; secrets are left out by who records it."""

    kind: Literal["config"] = "config"
    settings: dict[Name, Text] = Field(max_length=512)
    keys: Digest | None = None
    """SHA-256 of all API keys' ids and terms; None where there are none. It differs from the last
    start's by `key` events alone."""


class DriftEvent(Spec):
    """A verdict on a window of traffic."""

    kind: Literal["drift"] = "drift"
    dictionary: Digest
    segment: Text = ""
    """`key:ID` or `label:NAME`; "" is all traffic."""
    stream: StreamName
    start: Count
    end: Count
    """Of the window, in seconds since 1970."""
    state: Name
    alarm: Name
    items: Count
    concepts: tuple[Count, ...] = Field(default=(), max_length=1000)
    """Those that changed, most changed first."""
    report: Digest | None = None
    """SHA-256 of the whole verdict, kept elsewhere."""


class KeyEvent(Spec):
    """An API key that was added, changed or revoked."""

    kind: Literal["key"] = "key"
    action: Literal["added", "changed", "revoked"]
    key: Name
    scopes: tuple[Name, ...] = Field(default=(), max_length=64)


class LogEvent(Spec):
    """What befell the log itself."""

    kind: Literal["log"] = "log"
    action: Literal["opened", "recovered", "dropped", "removed", "closed"]
    """`recovered`: an unfinished tail was cut; `dropped`: events were lost under `fail_open`;
    `removed`: segments past their retention went."""
    count: Count = 0
    """Bytes cut, events dropped or entries removed."""
    digest: Digest | None = None
    """`recovered`: SHA-256 of the bytes cut; `removed`: root of the tree over all removed."""
    through: Count | None = None
    """`removed`: every entry before this sequence number went."""


Event = Annotated[
    EncodeEvent | LabelEvent | ArtifactEvent | ConfigEvent | DriftEvent | KeyEvent | LogEvent,
    Field(discriminator="kind"),
]


def content_digest(content: bytes | memoryview) -> str:
    """SHA-256 of an image file's bytes, a text's UTF-8 or activations' little-endian float32."""
    return hashlib.sha256(content).hexdigest()
