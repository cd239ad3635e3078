"""`GET /v1/concepts`: searching, paging, caching."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from koine.artifact import Artifact
from tests.service.conftest import serving
from tests.service.labelled import LABELS, labelled
from tests.service.test_unhappy_requests import problem_of
from tests.tiny import NUM_CONCEPTS


@pytest.fixture(scope="module")
def named(
    tiny_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestClient]:
    with serving(labelled(tiny_artifact, tmp_path_factory.mktemp("named") / "artifact")) as client:
        yield client


def page(client: TestClient, **query: Any) -> dict[str, Any]:
    answer = client.get("/v1/concepts", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.json().keys() == {"dictionary", "concepts", "next"}
    return answer.json()


def ids(client: TestClient, **query: Any) -> list[int]:
    return [concept["id"] for concept in page(client, **query)["concepts"]]


def test_all_are_listed_by_id_a_page_at_a_time(named: TestClient) -> None:
    first = page(named)
    assert [concept["id"] for concept in first["concepts"]] == list(range(50))
    last = page(named, cursor=first["next"])
    assert [concept["id"] for concept in last["concepts"]] == list(range(50, NUM_CONCEPTS))
    assert last["next"] is None
    assert page(named, limit=NUM_CONCEPTS)["next"] is None
    assert page(named, limit=1000)["concepts"] == first["concepts"] + last["concepts"]


def test_a_page_that_ends_with_the_last_concept_has_no_next(named: TestClient) -> None:
    seen, cursor = [], None
    while True:
        answer = page(named, limit=16, **({"cursor": cursor} if cursor else {}))
        seen += [concept["id"] for concept in answer["concepts"]]
        if (cursor := answer["next"]) is None:
            break
    assert seen == list(range(NUM_CONCEPTS))


def test_what_is_told_of_a_concept(named: TestClient) -> None:
    concepts = page(named)["concepts"]
    for concept in concepts:
        assert concept.keys() == {"id", "label", "status", "score", "rate"}
    assert concepts[7] | {"rate": None} == {
        "id": 7, "label": "DOG on grass", "status": "proposed", "score": 0.5, "rate": None,
    }  # fmt: skip
    assert concepts[0]["label"] is None
    assert concepts[0]["rate"].keys() == {"tiny_a", "tiny_b", "tiny_text", "imported"}
    assert concepts[7].items() <= named.get("/v1/concepts/7").json().items()


def test_labels_are_searched_in_any_case(named: TestClient) -> None:
    assert ids(named, q="dog") == ids(named, q="DoG") == [7, 8]
    assert ids(named, q="strasse") == [40]
    assert ids(named, q="nobody") == []
    assert ids(named, q="", limit=3) == [0, 1, 2]
    assert ids(named, status="proposed") == sorted(LABELS)
    assert ids(named, status="proposed", q="square") == [3]
    assert ids(named, status="x") == []


def test_searches_are_paged_too(named: TestClient) -> None:
    first = page(named, q="dog", limit=1)
    assert [concept["id"] for concept in first["concepts"]] == [7]
    second = page(named, q="dog", limit=1, cursor=first["next"])
    assert [concept["id"] for concept in second["concepts"]] == [8]
    assert second["next"] is None


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=-1", "limit"),
        ("limit=%C2%B2", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("cursor=x", "leave it out"),
        ("cursor=", "leave it out"),
        ("cursor=%00%C3%A9", "leave it out"),
        ("query=dog", "unknown key `query`"),
    ],
)
def test_queries_that_cannot_be_read_are_400(named: TestClient, query: str, words: str) -> None:
    assert words in problem_of(named.get(f"/v1/concepts?{query}"), 400)


@pytest.mark.parametrize("text", ["0000000000000000:5", "x", "", ":", "0000000000000000:-1"])
def test_cursors_of_others_are_400(named: TestClient, text: str) -> None:
    cursor = base64.urlsafe_b64encode(text.encode()).decode()
    assert "leave it out" in problem_of(named.get("/v1/concepts", params={"cursor": cursor}), 400)


def test_a_cursor_holds_for_one_version_only(named: TestClient, client: TestClient) -> None:
    cursor = page(named)["next"]
    answer = client.get("/v1/concepts", params={"cursor": cursor})
    assert "another dictionary or version" in problem_of(answer, 400)


@pytest.mark.parametrize("id_", ["64", "-1", "x", "007x", "99999999999999999999", "%C2%B2", "1.0"])
def test_unknown_concepts_are_404(named: TestClient, id_: str) -> None:
    answer = named.get(f"/v1/concepts/{id_}")
    assert "0 to 63" in problem_of(answer, 404)
    assert answer.json()["type"] == "urn:koine:error:unknown-concept"
    same = named.get(f"/v1/concepts/{id_}", headers={"if-none-match": "*"})
    assert same.status_code == 404


@pytest.mark.parametrize("path", ["/v1/concepts", "/v1/concepts/7"])
def test_unknown_dictionaries_are_404(named: TestClient, path: str) -> None:
    assert "tiny@0.1" in problem_of(named.get(f"{path}?dictionary=x"), 404)
    assert named.get(f"{path}?dictionary=tiny@0.1").status_code == 200


@pytest.mark.parametrize("path", ["/v1/concepts?q=dog", "/v1/concepts/7"])
def test_an_unchanged_answer_is_304(named: TestClient, client: TestClient, path: str) -> None:
    first = named.get(path)
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "private, no-cache"
    for given in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        again = named.get(path, headers={"if-none-match": given})
        assert again.status_code == 304, given
        assert again.content == b""
        assert again.headers["etag"] == tag
    for given in ('"x"', tag.strip('"'), ""):
        assert named.get(path, headers={"if-none-match": given}).status_code == 200
    assert client.get(path, headers={"if-none-match": tag}).status_code == 200  # another artifact
    head = named.head(path)
    assert (head.status_code, head.headers["etag"]) == (200, tag)
