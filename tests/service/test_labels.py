"""`PATCH /v1/concepts/{id}`, cards and pictures: what people say of concepts while it is served."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from koine.artifact import Artifact
from koine.concepts import read_concepts
from koine.labels import Edit, LabelLayer
from koine.manifest import CONCEPTS
from service.access.__main__ import main as keys_main
from service.telemetry import audit
from tests.service.conftest import serving
from tests.service.labelled import jpeg, labelled
from tests.service.test_unhappy_requests import problem_of

CARD = {
    "dictionary", "id", "label", "status", "score", "rate", "source", "purity", "proposed",
    "evidence", "nearest", "exemplars", "revision", "etag", "history",
}  # fmt: skip


@pytest.fixture(scope="module")
def artifact(tiny_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return labelled(tiny_artifact, tmp_path_factory.mktemp("named") / "artifact")


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("labels")


@pytest.fixture(scope="module")
def served(artifact: Artifact, labels: Path) -> Iterator[TestClient]:
    with serving(artifact, labels=labels) as client:
        yield client


@pytest.fixture
def client(served: TestClient, labels: Path) -> TestClient:
    """With nothing said yet."""
    for path in labels.iterdir():
        path.unlink()
    return served


def card(client: TestClient, id_: int = 7) -> dict[str, Any]:
    answer = client.get(f"/v1/concepts/{id_}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["etag"] == answer.json()["etag"]
    return answer.json()


def patch(client: TestClient, wanted: Any, tag: str | None = None, id_: int = 7) -> Any:
    headers = {} if tag is None else {"if-match": tag}
    return client.patch(f"/v1/concepts/{id_}", json=wanted, headers=headers)


def change(client: TestClient, id_: int = 7, **wanted: Any) -> dict[str, Any]:
    answer = patch(client, wanted, card(client, id_)["etag"], id_)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_card_has_all_that_the_artifact_knows(client: TestClient) -> None:
    told = card(client)
    assert told.keys() == CARD
    assert told["nearest"] == [
        {"id": 8, "label": "dog", "status": "proposed"},
        {"id": 3, "label": "red Square", "status": "proposed"},
    ]
    assert told["evidence"][0] == {
        "route": "direction", "stream": "tiny_text", "term": "a hound", "score": 0.4,
    }  # fmt: skip
    assert [each["thumbnail"] for each in told["exemplars"]][:2] == [
        "/v1/concepts/7/exemplars/0", None,
    ]  # fmt: skip
    assert (told["revision"], told["history"], told["source"]) == (0, [], "direction")


def test_a_change_is_shown_in_every_answer_at_once(client: TestClient) -> None:
    renamed = change(client, status="renamed", label="hound", reason="no grass")
    assert renamed == card(client)
    assert (renamed["label"], renamed["source"], renamed["score"]) == ("hound", "person", None)
    assert (renamed["proposed"], renamed["purity"]) == ("DOG on grass", {})
    (entry,) = renamed["history"]
    assert entry["before"] == {"label": "DOG on grass", "status": "proposed"}
    assert (entry["person"], entry["reason"]) == ("anonymous", "no grass")
    found = client.get("/v1/concepts", params={"q": "hound"}).json()["concepts"]
    assert [concept["id"] for concept in found] == [7]
    asked = {"inputs": [{"text": f"a dog {n}"} for n in range(32)], "names": True}
    names = {}
    for result in client.post("/v1/encode", json=asked).json()["results"]:
        codes = result["codes"]["tiny_text"]
        names |= dict(zip(codes["indices"], codes["names"], strict=True))
    fired = next(id_ for id_ in names if id_ not in (3, 7, 8, 40))
    change(client, fired, status="renamed", label="something else")
    codes = client.post("/v1/encode", json=asked).json()["results"]
    again = [c for r in codes for c in r["codes"]["tiny_text"]["names"] if c is not None]
    assert "something else" in again


def test_a_rejected_label_is_shown_nowhere_but_in_the_history(client: TestClient) -> None:
    rejected = change(client, status="rejected", reason="nonsense")
    assert (rejected["label"], rejected["status"]) == (None, "rejected")
    assert rejected["history"][0]["before"]["label"] == "DOG on grass"
    assert client.get("/v1/concepts", params={"q": "on grass"}).json()["concepts"] == []
    back = change(client, status="proposed")
    assert (back["label"], back["score"], back["purity"]) == ("DOG on grass", 0.5, {"tiny_a": 0.75})


def test_lost_updates_are_refused_with_the_present_state(client: TestClient) -> None:
    seen = card(client)["etag"]
    assert "If-Match" in problem_of(patch(client, {"status": "verified"}), 428)
    assert patch(client, {"status": "verified"}, seen).status_code == 200
    again = patch(client, {"status": "verified"}, seen)
    assert again.status_code == 200, "the same change sent again has been made already"
    assert again.json()["revision"] == 1
    late = patch(client, {"status": "rejected"}, seen)
    assert late.status_code == 412
    told = late.json()
    assert told["type"] == "urn:koine:error:conflict"
    assert "`verified`, revision 1" in told["detail"]
    assert told["current"] == card(client)
    assert late.headers["etag"] == told["current"]["etag"]
    for tag in ('"x"', "W/" + told["current"]["etag"], seen.replace('"', '"0', 1)):
        assert patch(client, {"status": "rejected"}, tag).status_code == 412, tag
    assert patch(client, {"status": "rejected"}, f'"x", {late.headers["etag"]}').status_code == 200
    assert patch(client, {"status": "proposed"}, "*").status_code == 200


def test_a_neighbours_change_makes_a_new_card_and_no_conflict(client: TestClient) -> None:
    seen = card(client)
    change(client, 8, status="renamed", label="wolf")
    fresh = client.get("/v1/concepts/7", headers={"if-none-match": seen["etag"]})
    assert fresh.json()["nearest"][0]["label"] == "wolf"
    assert patch(client, {"status": "verified"}, seen["etag"]).status_code == 200


def test_an_unchanged_list_is_304_until_a_label_changes(client: TestClient) -> None:
    tag = client.get("/v1/concepts").headers["etag"]
    held = {"if-none-match": tag}
    assert client.get("/v1/concepts", headers=held).status_code == 304
    change(client, 3, status="verified")
    assert client.get("/v1/concepts", headers=held).status_code == 200


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({}, "`status` is missing"),
        ({"status": "good"}, "`status`"),
        ({"status": "renamed"}, "needs a label"),
        ({"status": "renamed", "label": "a\u0000b"}, "control"),
        ({"status": "verified", "label": "cat"}, "`renamed`"),
        ({"status": "verified", "revision": 1}, "unknown key `revision`"),
        ([], "it must be an object"),
    ],
)
def test_changes_without_sense_are_400(client: TestClient, wanted: Any, words: str) -> None:
    assert words in problem_of(patch(client, wanted, card(client)["etag"]), 400)


def test_other_requests_are_refused(client: TestClient) -> None:
    assert patch(client, {"status": "verified"}, "*", 64).status_code == 404
    sent = client.patch("/v1/concepts/7", content=b"x", headers={"content-type": "text/plain"})
    assert sent.status_code == 415
    assert client.delete("/v1/concepts/7").status_code == 405


def test_without_a_layer_the_answer_says_what_to_set(artifact: Artifact) -> None:
    with serving(artifact) as client:
        answer = patch(client, {"status": "verified"}, card(client)["etag"])
        assert "KOINE_LABELS" in problem_of(answer, 409)


def test_a_change_is_one_record_with_everything(
    client: TestClient, artifact: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger=audit.LOGGER):
        change(client, status="verified", reason="looked")
    (record,) = [record for record in caplog.records if record.name == audit.LOGGER]
    fields = dict(record.__dict__["fields"])
    assert fields.pop("changed")
    assert fields == {
        "event": "label", "dictionary": "tiny@0.1", "digest": artifact.digest, "revision": 1,
        "concept": 7, "before": {"label": "DOG on grass", "status": "proposed"},
        "after": {"label": "DOG on grass", "status": "verified"}, "person": "anonymous",
        "reason": "looked", "source": None, "confidence": None,
    }  # fmt: skip


def test_keys_need_the_scope_and_are_named(
    artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys, secrets = tmp_path / "keys.jsonl", dict[str, str]()
    for name, scopes in (("ada", "read,label"), ("guest", "read")):
        keys_main(["create", name, "--scopes", scopes, "--file", str(keys)])
        secrets[name] = capsys.readouterr().out.strip()
    with serving(artifact, labels=tmp_path, keys_file=keys) as client:
        told = {}
        for name, secret in secrets.items():
            client.headers["x-api-key"] = secret
            told[name] = patch(client, {"status": "verified"}, card(client)["etag"])
        assert "`label`" in problem_of(told["guest"], 403)
        assert told["ada"].json()["history"][0]["person"].startswith("ada (")
        del client.headers["x-api-key"]
        assert client.get("/concepts").status_code == 200


def test_what_others_write_is_followed_and_damage_changes_nothing(
    client: TestClient, artifact: Artifact, labels: Path
) -> None:
    other = LabelLayer(labels, artifact, read_concepts(artifact.file(CONCEPTS)))
    edit = Edit(concept=7, status="renamed", label="migrated", source="x@1", confidence=0.5)
    other.append([edit], person="migrate")
    told = card(client)
    assert (told["label"], told["source"], told["score"]) == ("migrated", "x@1", 0.5)
    kept = other.path.read_text()
    other.path.write_text(kept.replace('"revision":1', '"revision":9'))
    assert card(client)["label"] == "migrated"
    answer = patch(client, {"status": "verified"}, told["etag"])
    assert "line 2" in problem_of(answer, 500)
    other.path.write_text(kept)
    assert change(client, status="verified")["revision"] == 2


def test_names_in_codes_follow_within_the_stated_time(
    client: TestClient, artifact: Artifact, labels: Path
) -> None:
    other = LabelLayer(labels, artifact, read_concepts(artifact.file(CONCEPTS)))
    dictionary = client.app.state.core.dictionaries.find()  # type: ignore[attr-defined]
    other.append([Edit(concept=7, status="renamed", label="elsewhere")], person="bob")
    deadline = time.monotonic() + 30
    while dictionary.labels[7] != "elsewhere":  # nothing asks: the service looks itself
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_layer_of_another_artifact_is_no_service(artifact: Artifact, tmp_path: Path) -> None:
    header = {"koine_labels": 1, "dictionary": "other@1", "digest": "0" * 64}
    (tmp_path / f"{artifact.digest}.jsonl").write_text(json.dumps(header) + "\n")
    with pytest.raises(AssertionError, match=r"other@1"), serving_soon(artifact, tmp_path):
        pass


def serving_soon(artifact: Artifact, labels: Path) -> Any:
    from service.dictionary import load
    from service.settings import Settings

    try:
        load(artifact.path, Settings(labels=labels, provider="cpu", threads=1))
    except Exception as error:
        raise AssertionError(str(error)) from error


def test_pictures_come_from_the_archive_and_nowhere_else(client: TestClient) -> None:
    picture = client.get("/v1/concepts/7/exemplars/0")
    assert (picture.status_code, picture.content) == (200, jpeg())
    assert picture.headers["content-type"] == "image/jpeg"
    held = {"if-none-match": picture.headers["etag"]}
    assert client.get("/v1/concepts/7/exemplars/0", headers=held).status_code == 304
    for place in ("1", "4", "99999", "-1", "x", "0.jpg"):
        problem_of(client.get(f"/v1/concepts/7/exemplars/{place}"), 404)
    problem_of(client.get("/v1/concepts/3/exemplars/0"), 404)
    for place in ("2", "3"):  # packed; not in the archive
        problem_of(client.get(f"/v1/concepts/7/exemplars/{place}"), 503)


def ids(client: TestClient, **query: Any) -> list[int]:
    answer = client.get("/v1/concepts", params={"limit": 1000, **query})
    assert answer.status_code == 200, answer.text
    return [concept["id"] for concept in answer.json()["concepts"]]


def test_concepts_are_filtered_and_sorted(client: TestClient) -> None:
    assert ids(client, q="square") == [3]
    assert ids(client, q="square", evidence="true") == [3, 7]
    assert ids(client, min_score="0.5") == [3, 7, 8, 40]
    assert ids(client, sort="score")[:5] == [3, 7, 8, 40, 0]
    everything = client.get("/v1/concepts", params={"limit": 1000}).json()["concepts"]
    rate = {c["id"]: c["rate"]["tiny_a"] for c in everything}
    by_rate = ids(client, sort="rate", stream="tiny_a")
    assert by_rate == sorted((c for c in rate if rate[c]), key=lambda c: (-rate[c], c))
    least = sorted(rate.values())[40]
    assert ids(client, min_rate=str(least), stream="tiny_a") == [
        c for c in rate if rate[c] >= least
    ]
    for query in ("sort=x", "min_rate=2", "min_rate=x", "evidence=maybe", "stream=none"):
        problem_of(client.get(f"/v1/concepts?{query}"), 400)


@pytest.mark.parametrize("sort", ["id", "rate", "score"])
def test_pages_are_stable_while_labels_change(client: TestClient, sort: str) -> None:
    seen, cursor = list[int](), None
    while True:
        query = {"sort": sort, "limit": "7"} | ({"cursor": cursor} if cursor else {})
        answer = client.get("/v1/concepts", params=query).json()
        seen += [concept["id"] for concept in answer["concepts"]]
        if (cursor := answer["next"]) is None:
            break
        change(client, seen[-1], status="renamed", label=f"name {len(seen)}")
    assert sorted(set(seen)) == list(range(64))
    assert len(seen) == 64 or sort == "score"  # a renamed concept loses its score, and moves
    stale = client.get("/v1/concepts?limit=7").json()["next"]
    problem_of(client.get("/v1/concepts", params={"cursor": stale, "sort": "rate"}), 400)


def test_artifacts_without_pictures_are_served(tiny_artifact: Artifact, tmp_path: Path) -> None:
    path = shutil.copytree(tiny_artifact.path, tmp_path / "artifact")
    with serving(Artifact.open(path)) as client:
        assert card(client, 0)["exemplars"] == []
