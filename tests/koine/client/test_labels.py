"""`concept` and `update_concept`, the same over HTTP and gRPC, with threads and event loops."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from koine.artifact import Artifact
from koine.errors import ConflictError, PreconditionError, RequestError, UnknownConceptError
from tests.koine.client.conftest import Run
from tests.koine.client.service_thread import Served, serving
from tests.service.labelled import labelled


@pytest.fixture(scope="module")
def named(tiny_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("named")
    with serving(labelled(tiny_artifact, folder / "artifact"), labels=folder) as served:
        yield served


@pytest.fixture(params=["http", "grpc"])
def url(request: pytest.FixtureRequest, named: Served) -> str:
    return getattr(named, request.param)


def test_a_card_and_its_change(url: str, call: Run) -> None:
    seen = call(url, "concept", 7, client={})
    assert seen.evidence[0]["term"] == "a hound"
    assert [concept.label for concept in seen.nearest] == ["dog", "red Square"]
    wanted = {"status": "renamed", "label": f"hound {seen.revision}", "reason": "looked"}
    fresh = call(url, "update_concept", 7, etag=seen.etag, client={}, **wanted)
    assert fresh.concept.label == f"hound {seen.revision}"
    assert fresh == call(url, "concept", 7, client={})
    assert fresh.history[-1].after == (fresh.concept.label, "renamed")
    assert (fresh.history[-1].person, fresh.history[-1].reason) == ("anonymous", "looked")
    with pytest.raises(ConflictError, match="somebody else was first"):
        call(url, "update_concept", 7, etag=seen.etag, status="rejected", client={})
    with pytest.raises(RequestError):
        call(url, "update_concept", 7, etag=fresh.etag, status="good", client={})
    with pytest.raises(PreconditionError):
        call(url, "update_concept", 7, etag="", status="rejected", client={})
    with pytest.raises(UnknownConceptError):
        call(url, "concept", 64, client={})


def test_both_transports_tell_the_same(named: Served, call: Run) -> None:
    for id_ in (0, 7, 40):
        over_http = call(named.http, "concept", id_, client={})
        over_grpc = call(named.grpc, "concept", id_, client={})
        assert over_http.etag == over_grpc.etag
        assert over_http.concept == over_grpc.concept
        assert over_http.history == over_grpc.history
        assert len(over_http.exemplars) == len(over_grpc.exemplars)
