"""What the service writes into its audit log: read back, verified, reproduced, and refused."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from starlette.testclient import TestClient

from koine.__main__ import main
from koine.artifact import Artifact
from koine.audit.entries import Entry, event_of, read_entry
from koine.audit.events import EncodeEvent, content_digest
from koine.audit.segments import segments_of
from koine.audit.signing import read_verifying_key, write_new_key
from koine.audit.verify import verify_log
from service.access.__main__ import main as keys_main
from service.audit import TOP
from service.routes.app import create_app
from service.settings import Settings
from tests.service.conftest import serving
from tests.service.inputs import b64, image_item, png
from tests.service.labelled import labelled
from tests.service.process import bentoml_serve
from tests.service.test_unhappy_requests import problem_of


class Log:
    """A directory for a log, with a key."""

    def __init__(self, folder: Path) -> None:
        self.root, self.key = folder / "log", folder / "audit.key"
        self.root.mkdir()
        write_new_key(self.key)

    @property
    def settings(self) -> dict[str, Any]:
        return {"audit": self.root, "audit_key": self.key}

    def entries(self) -> list[Entry]:
        """Of every writer, headers of segments left out."""
        found: list[Entry] = []
        for folder in sorted(self.root.iterdir()):
            for segment in segments_of(folder):
                found += [read_entry(line) for line in segment.read_bytes().splitlines()[1:]]
        return found

    def events(self, kind: str) -> list[Any]:
        return [event for entry in self.entries() if (event := event_of(entry)).kind == kind]

    def faults(self) -> list[Any]:
        key = read_verifying_key(self.key.with_name("audit.key.pub"))
        return [fault for checked in verify_log(self.root, key) for fault in checked.faults]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


@pytest.fixture
def client(tiny_artifact: Artifact, log: Log) -> Iterator[TestClient]:
    with serving(tiny_artifact, **log.settings) as client:
        yield client


def encode(client: TestClient, *inputs: dict[str, Any], **more: Any) -> Any:
    answer = client.post("/v1/encode", json={"inputs": list(inputs), **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_every_item_is_an_entry_and_no_content_is(
    client: TestClient, log: Log, tiny_artifact: Artifact
) -> None:
    acts = {"imported": [0.5] * 10}
    encode(client, image_item(1), {"text": "a secret dog"}, {"activations": acts})
    image, text, activations = log.events("encode")
    assert image.content == {"image": content_digest(png(1))}
    assert text.content == {"text": content_digest(b"a secret dog")}
    values = np.full(10, 0.5, "<f4").tobytes()
    assert activations.content == {"activations.imported": content_digest(values)}
    assert {event.outcome for event in (image, text, activations)} == {"ok"}
    assert {event.dictionary for event in (image, text, activations)} == {tiny_artifact.digest}
    written = b"".join(path.read_bytes() for path in log.root.rglob("*") if path.is_file())
    assert b"secret" not in written
    assert log.faults() == []


@pytest.mark.parametrize("mode", ["independent", "joint"])
def test_the_strongest_concepts_are_those_of_the_answer(
    client: TestClient, log: Log, mode: str
) -> None:
    told = encode(client, {**image_item(1), "text": "a dog"}, mode=mode)
    (event,) = log.events("encode")
    assert event.codes.keys() == told["results"][0]["codes"].keys()
    for stream, codes in told["results"][0]["codes"].items():
        ranked = sorted(zip(codes["values"], codes["indices"], strict=True), reverse=True)[:TOP]
        kept = [(one.concept, one.micros) for one in event.codes[stream]]
        assert kept == [(concept, round(value * 1e6)) for value, concept in ranked]


def test_errors_are_entries_too(client: TestClient, log: Log) -> None:
    answer = encode(client, {"image": b64(b"no image")}, {"image": "?"}, {"text": "a dog"})
    assert [bool(result.get("error")) for result in answer["results"]] == [True, True, False]
    damaged, unreadable, fine = log.events("encode")
    assert damaged.outcome == unreadable.outcome == "ImageError"
    assert damaged.content == {"image": content_digest(b"no image")}
    assert unreadable.content == {}
    assert damaged.codes == {}
    assert fine.outcome == "ok"


def test_a_request_that_is_refused_whole_is_told_of(client: TestClient, log: Log) -> None:
    asked = {"inputs": [{"text": "a dog"}], "streams": ["nowhere"]}
    assert client.post("/v1/encode", json=asked).status_code == 400
    (event,) = log.events("encode")
    assert event.outcome == "UnknownStreamError"
    assert event.content == {"text": content_digest(b"a dog")}


def test_trace_and_key_lead_to_the_entry(
    tiny_artifact: Artifact, log: Log, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys"
    keys_main(["create", "ann", "--scopes", "encode", "--file", str(file)])
    secret = capsys.readouterr().out.split()[0]
    with serving(tiny_artifact, keys_file=file, **log.settings) as client:
        headers = {"authorization": f"Bearer {secret}"}
        headers["traceparent"] = f"00-{'ab' * 16}-{'cd' * 8}-01"
        asked = {"inputs": [{"text": "a dog"}]}
        assert client.post("/v1/encode", json=asked, headers=headers).status_code == 200
        client.app.state.access.refresh()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportFunctionMemberAccess]
        keys_main(["revoke", "ann", "--file", str(file)])
        client.app.state.access.refresh()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportFunctionMemberAccess]
    (event,) = log.events("encode")
    assert event.trace == "ab" * 16
    added, revoked = log.events("key")
    assert (added.action, added.key, added.scopes) == ("added", event.key, ("encode",))
    assert (revoked.action, revoked.key) == ("revoked", event.key)
    assert secret.encode() not in b"".join(p.read_bytes() for p in log.root.rglob("*.jsonl"))


def test_starts_dictionaries_and_settings_are_entries(
    tiny_artifact: Artifact, log: Log, tmp_path: Path
) -> None:
    artifact = tmp_path / "artifact"
    shutil.copytree(tiny_artifact.path, artifact)
    with serving(Artifact.open(artifact), reload_s=0.1, **log.settings):
        manifest = artifact / "manifest.json"
        manifest.write_text("{")
        deadline = time.monotonic() + 30
        while len(log.events("artifact")) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
    loaded, refused = log.events("artifact")
    assert (loaded.action, loaded.dictionary) == ("loaded", tiny_artifact.digest)
    assert refused.action == "refused"
    (config,) = log.events("config")
    assert config.settings["audit_policy"] == "fail_closed"
    assert log.faults() == []


def test_no_secret_of_the_settings_is_kept(tiny_artifact: Artifact, log: Log) -> None:
    url = "redis://:swordfish@127.0.0.1:1/0"
    with serving(tiny_artifact, redis_url=url, **log.settings):
        pass
    written = b"".join(path.read_bytes() for path in log.root.rglob("*") if path.is_file())
    assert b"swordfish" not in written


def test_a_changed_label_is_an_entry(tiny_artifact: Artifact, log: Log, tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    artifact = labelled(tiny_artifact, tmp_path / "artifact")
    with serving(artifact, labels=tmp_path / "labels", **log.settings) as client:
        tag = client.get("/v1/concepts/7").headers["etag"]
        wanted = {"status": "renamed", "label": "hound", "reason": "told by Bob"}
        headers = {"if-match": tag}
        assert client.patch("/v1/concepts/7", json=wanted, headers=headers).status_code == 200
    (event,) = log.events("label")
    assert (event.concept, event.before, event.after) == (7, "DOG on grass", "hound")
    assert (event.status, event.person) == ("renamed", "anonymous")


def test_a_table_of_labels_is_recorded(tiny_artifact: Artifact, log: Log, tmp_path: Path) -> None:
    artifact = labelled(tiny_artifact, tmp_path / "artifact")
    where = [str(artifact.path), "--labels", str(tmp_path / "labels")]
    table = tmp_path / "table.csv"
    assert main(["labels", "export", *where, "--out", str(table)]) == 0
    text = table.read_text(encoding="utf-8-sig")
    table.write_text(text.replace("dog,proposed", "dog,verified"), encoding="utf-8-sig")
    given = ["--by", "ann", "--audit", str(log.root), "--audit-key", str(log.key)]
    assert main(["labels", "import", *where, str(table), *given]) == 0
    (event,) = log.events("label")
    assert (event.concept, event.status, event.person) == (8, "verified", "ann")
    assert log.faults() == []


def test_what_was_asked_is_reproduced(
    client: TestClient, log: Log, tiny_artifact: Artifact, tmp_path: Path
) -> None:
    encode(client, image_item(3))
    number, entry = next(
        (n, e) for n, e in enumerate(log.entries()) if isinstance(event_of(e), EncodeEvent)
    )
    (tmp_path / "sent.png").write_bytes(png(3))
    (tmp_path / "other.png").write_bytes(png(4))
    place = f"{log.root / entry.writer}:{number}"
    again = ["audit", "reproduce", place, "--artifact", str(tiny_artifact.path), "--input"]
    assert main([*again, str(tmp_path / "sent.png")]) == 0
    assert main([*again, str(tmp_path / "other.png")]) == 2


def test_fail_closed_answers_nothing_that_is_not_kept(
    client: TestClient, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    encode(client, {"text": "before"})
    with monkeypatch.context() as patched:
        patched.setattr("koine.audit.journal.os.write", full)
        answer = client.post("/v1/encode", json={"inputs": [{"text": "lost"}]})
    assert answer.status_code == 503
    assert "No space left" in problem_of(answer, 503)
    encode(client, {"text": "after"})
    digests = [event.content["text"] for event in log.events("encode")]
    assert digests == [content_digest(b"before"), content_digest(b"after")]
    assert log.faults() == []


def test_fail_open_serves_on_and_counts_what_it_lost(
    tiny_artifact: Artifact, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    with serving(tiny_artifact, audit_policy="fail_open", **log.settings) as client:
        with monkeypatch.context() as patched:
            patched.setattr("koine.audit.journal.os.write", full)
            encode(client, {"text": "lost"})
            time.sleep(0.3)
        encode(client, {"text": "kept"})
        deadline = time.monotonic() + 10
        while "koine_audit_dropped_events 1.0" not in client.get("/metrics").text:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert [event.count for event in log.events("log") if event.action == "dropped"] == [1]
    assert [e.content["text"] for e in log.events("encode")] == [content_digest(b"kept")]
    assert log.faults() == []


def test_a_log_that_cannot_be_opened_keeps_the_service_unready(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no directory")
    settings = Settings(artifact=str(tiny_artifact.path), audit=tmp_path / "file")
    with TestClient(create_app(settings)) as client:
        for answer in (
            client.get("/readyz"),
            client.post("/v1/encode", json={"inputs": [{"text": "a dog"}]}),
        ):
            assert "cannot be written" in problem_of(answer, 503)


def test_two_workers_are_killed_and_nothing_acknowledged_is_lost(
    tiny_artifact: Artifact, log: Log, tmp_path: Path
) -> None:
    settings = {
        "KOINE_ARTIFACT": str(tiny_artifact.path),
        "KOINE_PROVIDER": "cpu",
        "KOINE_WORKERS": "2",
        "KOINE_AUDIT": str(log.root),
        "KOINE_AUDIT_KEY": str(log.key),
    }
    told: set[str] = set()
    with bentoml_serve(tmp_path, settings=settings) as server:
        for number in range(60):
            text = f"text {number}"
            answer = server.client.post("/v1/encode", json={"inputs": [{"text": text}]})
            if answer.status_code == 200:
                told.add(content_digest(text.encode()))
        parent = psutil.Process(server.process.pid)
        family = [*parent.children(recursive=True), parent]  # workers have sessions of their own
        for process in family:
            process.kill()
        psutil.wait_procs(family, timeout=10)
    kept = {event.content["text"] for event in log.events("encode")}
    assert len(told) == 60
    assert told <= kept
    assert log.faults() == []


def test_a_service_that_could_never_open_its_log_does_not_start(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    settings = {"KOINE_ARTIFACT": str(tiny_artifact.path), "KOINE_AUDIT": str(tmp_path / "nowhere")}
    with (
        pytest.raises(AssertionError, match="make it first"),
        bentoml_serve(tmp_path, settings=settings),
    ):
        pass
