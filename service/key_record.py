"""Which API keys the audit log knows of, so that changes are told that no process saw; no events'
chain, no request.

The state stands beside the log in `keys.json`: ids, scopes and a hash of each key's terms. It is a
note of what the log says, and no evidence: its own hash goes into every start's entry.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from koine.audit.canonical import canonical
from koine.audit.events import KeyEvent, content_digest
from service.access.keys import Key

STATE, LOCK = "keys.json", "keys.lock"
State = Mapping[str, Mapping[str, Any]]
"""Key id → its `scopes`, whether it is `disabled`, and `terms`, a hash of all that it may."""


def state_of(keys: Mapping[str, Key]) -> State:
    """What is kept of keys, by id."""
    return {key.id: _kept(key) for key in keys.values()}


def digest_of(state: State) -> str:
    """SHA-256 of a state."""
    return content_digest(canonical(state))


@contextmanager
def recorded(root: Path) -> Generator[Path]:
    """The state's file, which no other process changes meanwhile. Raises `OSError`."""
    with (root / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield root / STATE


def read_state(path: Path) -> State:
    """The state that was written last; empty where none was or it cannot be read."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return cast("State", found) if isinstance(found, dict) else {}


def write_state(path: Path, state: State) -> None:
    """Replaces the state, or leaves it as it was. Raises `OSError`."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(canonical(state))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def changes(before: State, after: State) -> Sequence[KeyEvent]:
    """How two states differ, by key id."""
    found: list[KeyEvent] = []
    for id in sorted(before.keys() | after.keys()):
        old, new = before.get(id), after.get(id)
        if old == new:
            continue
        shown = new or old or {}
        gone = new is None or (new["disabled"] and (old is None or not old["disabled"]))
        action = "revoked" if gone else "added" if old is None else "changed"
        found.append(KeyEvent(action=action, key=id, scopes=tuple(shown["scopes"])))
    return found


def _kept(key: Key) -> Mapping[str, Any]:
    terms = {name: str(value) for name, value in asdict(key).items() if name != "scopes"}
    scopes = sorted(key.scopes)
    terms["scopes"] = " ".join(scopes)
    return {
        "disabled": key.disabled,
        "scopes": scopes,
        "terms": content_digest(canonical(terms)),
    }
