"""A judged window as it is kept and told: the verdicts, what of them persists, since when.

Builds JSON from a comparison and the windows before it; reads no counts and keeps nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from koine.drift.alarm import AlarmConfig, alarm
from koine.drift.compare import Comparison, compare
from koine.drift.report import as_dict
from koine.drift.verdict import DriftConfig, State
from koine.profile import Profile
from service.counting import Window
from service.drift.references import Reference, Watched, profile_of_window

MOST_CONCEPTS = 100
"""Changed concepts of a stream that a record lists."""
DIRECTIONS = ("more", "less", "new", "vanished")
ALARM = AlarmConfig()
CONFIG = DriftConfig()

Record = Mapping[str, Any]


class Judged(NamedTuple):
    """A comparison, and the record of it."""

    found: Comparison
    record: Record


def judged(
    watched: Watched,
    segment: str,
    window: Window,
    reference: Reference,
    before: Sequence[Record],
) -> Judged:
    """`before`: the records of the windows before this one, oldest first."""
    seen = profile_of_window(watched, window)
    found = compare(reference.profile, seen, CONFIG)
    told = as_dict(found, watched.labels)
    for name, stream in told["streams"].items():
        state: State = stream["state"]
        stream["alarm"] = alarm([*_states(before, "streams", name), state], ALARM)
        changed = Counter(one["kind"] for one in stream["concepts"])
        stream["changed"] = {kind: changed[kind] for kind in DIRECTIONS}
        earlier = _since(before[-(ALARM.of - 1) :], name)
        stream["concepts"] = [
            {
                **one,
                "since": earlier.get((one["id"], one["ratio"] > 1), window.start),
                "href": concept_href(watched, one["id"]),
            }
            for one in stream["concepts"][:MOST_CONCEPTS]
        ]
    for pair, one in told["agreement"].items():
        state = one["state"] = _pair_state(seen, pair, bool(one["drifted"]))
        one["alarm"] = alarm([*_states(before, "agreement", pair), state], ALARM)
    return Judged(found, {**heading(watched, segment, window, reference), **told})


def heading(watched: Watched, segment: str, window: Window, reference: Reference) -> dict[str, Any]:
    """What a verdict is of, and beside what."""
    return {
        "dictionary": watched.title,
        "digest": watched.digest,
        "segment": segment,
        "from": window.start,
        "to": window.end,
        "reference": {"source": reference.source, "items": reference.items},
    }


def concept_href(watched: Watched, concept: int) -> str:
    """Where the service tells of a concept and its exemplars."""
    return f"/v1/concepts/{concept}?dictionary={watched.title}"


def record_bytes(record: Record) -> bytes:
    """As JSON with one spelling: keys in order, no spaces."""
    return json.dumps(
        record, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    ).encode()


def record_of(content: bytes) -> Record:
    """What `record_bytes` wrote."""
    return json.loads(content)


def record_digest(content: bytes) -> str:
    """SHA-256, as the audit log has it."""
    return hashlib.sha256(content).hexdigest()


def items_of(record: Record) -> dict[str, int]:
    """Items of each stream."""
    return {name: stream["items"] for name, stream in record["streams"].items()}


def _states(before: Sequence[Record], what: str, name: str) -> list[State]:
    return [record[what][name]["state"] for record in before if name in record[what]]


def _pair_state(seen: Profile, pair: str, drifted: bool) -> State:
    counts = seen.agreement[pair]
    if counts.items < CONFIG.least_items or counts.blocks < CONFIG.least_blocks:
        return "insufficient_data"
    return "drift" if drifted else "ok"


def _since(before: Sequence[Record], stream: str) -> dict[tuple[int, bool], int]:
    """When each change of the windows before began, by concept and whether it became more."""
    found: dict[tuple[int, bool], int] = {}
    for record in before:  # a later one carries the same beginning, or a newer one after a pause
        for one in record["streams"].get(stream, {}).get("concepts", []):
            found[one["id"], one["ratio"] > 1] = one["since"]
    return found
