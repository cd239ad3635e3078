"""Keys that change while nothing runs, or while several processes do, are told once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from koine.artifact import Artifact
from koine.audit.canonical import canonical
from koine.audit.events import content_digest
from service.access.__main__ import main as keys_main
from service.key_record import STATE
from tests.service.conftest import serving
from tests.service.test_audit import Log


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


class Keys:
    """A keys file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, *command: str) -> None:
        keys_main([*command, "--file", str(self.path)])

    def id(self, name: str) -> str:
        lines = [json.loads(line) for line in self.path.read_text().splitlines()]
        return next(line["sha256"][:8] for line in lines if line["name"] == name)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    keys = Keys(tmp_path / "keys")
    keys("create", "ann", "--scopes", "encode")
    keys("create", "bob", "--scopes", "encode,read")
    return keys


def run(artifact: Artifact, log: Log, keys: Keys) -> None:
    """A service that starts and stops, and sees no key change."""
    with serving(artifact, keys_file=keys.path, **log.settings):
        pass


def told(log: Log) -> list[tuple[Any, ...]]:
    return [(event.action, event.key, event.scopes) for event in log.events("key")]


def test_keys_that_change_while_nothing_runs_are_told_at_the_next_start(
    tiny_artifact: Artifact, log: Log, keys: Keys
) -> None:
    ann, bob = keys.id("ann"), keys.id("bob")
    run(tiny_artifact, log, keys)
    first = sorted([("added", ann, ("encode",)), ("added", bob, ("encode", "read"))])
    assert sorted(told(log)) == first
    run(tiny_artifact, log, keys)
    assert len(told(log)) == 2
    keys("revoke", "ann")
    keys("create", "eve", "--scopes", "admin")
    edited = keys.path.read_text().replace('"encode", "read"', '"read"')
    keys.path.write_text(edited)
    run(tiny_artifact, log, keys)
    assert sorted(told(log)[2:]) == sorted(
        [
            ("revoked", ann, ("encode",)),
            ("changed", bob, ("read",)),
            ("added", keys.id("eve"), ("admin",)),
        ]
    )
    keys.path.write_text("".join(keys.path.read_text().splitlines(keepends=True)[1:]))
    run(tiny_artifact, log, keys)
    assert told(log)[5:] == [("revoked", ann, ("encode",))]
    assert log.faults() == []


def test_two_processes_tell_of_a_change_once(tiny_artifact: Artifact, log: Log, keys: Keys) -> None:
    run(tiny_artifact, log, keys)
    with (
        serving(tiny_artifact, keys_file=keys.path, **log.settings) as one,
        serving(tiny_artifact, keys_file=keys.path, **log.settings) as two,
    ):
        keys("create", "eve", "--scopes", "read")
        for client in (one, two):
            client.app.state.access.refresh()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportFunctionMemberAccess]
    assert told(log)[2:] == [("added", keys.id("eve"), ("read",))]


def test_the_note_of_keys_cannot_be_changed_unseen(
    tiny_artifact: Artifact, log: Log, keys: Keys
) -> None:
    run(tiny_artifact, log, keys)
    keys("create", "eve", "--scopes", "admin")
    run(tiny_artifact, log, keys)
    first, second = log.events("config")
    note = json.loads((log.root / STATE).read_bytes())
    assert second.keys == content_digest(canonical(note)) != first.keys
    del note[keys.id("eve")]
    assert first.keys == content_digest(canonical(note))


def test_a_note_that_is_lost_tells_every_key_again(
    tiny_artifact: Artifact, log: Log, keys: Keys
) -> None:
    run(tiny_artifact, log, keys)
    (log.root / STATE).write_text("{")
    run(tiny_artifact, log, keys)
    assert sorted(told(log)[2:]) == sorted(told(log)[:2])
