"""Comparing, translating and listing concepts, against answers of the documented shape."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlsplit

import grpc
import numpy as np
import pytest

from koine.client import Client, Concept, Item, Pair, Text
from koine.errors import UnknownDictionaryError
from koine.proto.koine.v1 import concepts_pb2 as pb
from koine.proto.koine.v1 import concepts_pb2_grpc
from tests.koine.client.canned import Answer, Asked, canned, http, problem
from tests.koine.client.conftest import Run
from tests.koine.client.service_thread import Served
from tests.service.inputs import png

DOG: dict[str, Any] = {
    "id": 3, "label": "dog", "status": "proposed", "score": 0.75, "rate": {"a": 0.5}, "value": 1.5,
}  # fmt: skip
BARE: dict[str, Any] = {"id": 4, "label": None, "status": "unnamed", "score": None, "rate": {}}
ERROR: dict[str, Any] = {
    "type": "urn:koine:error:image",
    "title": "The image cannot be read",
    "detail": "no",
}
INPUTS = [Item(text="a dog", id="x"), Text("a cat"), Text("a")]


def concepts(asked: dict[str, Any]) -> dict[str, Any]:
    """Two pages, by cursor."""
    assert asked["q"] == "do g"
    last = asked.get("cursor") == "c2"
    return {"concepts": [BARE] if last else [DOG], "next": None if last else "c2"}


def compared(items: list[Any], *, dictionary: str = "tiny@0.1") -> dict[str, Any]:
    """The second of the items is an error."""
    pair = {"jaccard": 0.5, "shared": [DOG], "only_a": [], "only_b": [BARE]}
    none = {"jaccard": None, "shared": [], "only_a": [], "only_b": []}
    results: list[Any] = [{"id": id_, "pairs": {"a|b": pair, "a|c": none}} for id_ in items]
    results[1] = {"id": items[1], "error": ERROR}
    return {"dictionary": dictionary, "results": results}


def translated(items: list[Any]) -> dict[str, Any]:
    """From one stream with a known error, from one without."""
    sources: dict[str, dict[str, Any]] = {
        "a": {"activations": [0.1, -2.0], "expected_fvu": 0.25},
        "b": {"activations": [1.0, 2.0], "expected_fvu": None},
    }
    return {"results": [{"id": id_, "from": sources} for id_ in items]}


def script(asked: Asked, n: int) -> Answer:
    """The documented endpoints."""
    url = urlsplit(asked.path)
    if url.path == "/v1/concepts":
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        assert query.pop("limit") == "7"
        return http(200, concepts(query))
    body = asked.json
    ids = [item["id"] for item in body.pop("inputs")]
    if url.path == "/v1/compare":
        assert body == {"streams": ["a", "b"], "dictionary": "tiny"}
        return http(200, compared(ids))
    assert (url.path, body.pop("to")) == ("/v1/translate", "c")
    if body:
        return problem(404, "unknown-dictionary")
    return http(200, translated(ids))


class Service(concepts_pb2_grpc.ConceptServiceServicer):
    """The same over gRPC."""

    def Compare(self, request: Any, context: Any) -> Any:
        assert (list(request.streams), request.dictionary) == (["a", "b"], "tiny")
        response = pb.CompareResponse(dictionary="tiny@0.1")
        for result in compared([item.id for item in request.inputs])["results"]:
            item = response.results.add(id=result["id"])
            if "error" in result:
                item.error.CopyFrom(pb.Error(**ERROR))
            for name, pair in result.get("pairs", {}).items():
                item.pairs[name].CopyFrom(
                    pb.Pair(
                        jaccard=pair["jaccard"],
                        shared=[pb.Concept(**c) for c in pair["shared"]],
                        only_b=[pb.Concept(**c) for c in pair["only_b"]],
                    )
                )
        return response

    def Translate(self, request: Any, context: Any) -> Any:
        assert request.to == "c"
        if request.HasField("dictionary"):
            context.abort(grpc.StatusCode.NOT_FOUND, "refused: unknown-dictionary")
        response = pb.TranslateResponse()
        for result in translated([item.id for item in request.inputs])["results"]:
            item = response.results.add(id=result["id"])
            for name, told in result["from"].items():
                getattr(item, "from")[name].CopyFrom(pb.Translation(**told))
        return response

    def ListConcepts(self, request: Any, context: Any) -> Any:
        assert request.limit == 7
        page = concepts({"q": request.q, "cursor": request.cursor})
        return pb.ListConceptsResponse(
            concepts=[pb.Concept(**c) for c in page["concepts"]], next=page["next"]
        )


@pytest.fixture(params=["http", "grpc"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Such a service."""
    if request.param == "http":
        with canned(script) as server:
            yield server.url
        return
    server = grpc.server(ThreadPoolExecutor(4))
    concepts_pb2_grpc.add_ConceptServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"grpc://127.0.0.1:{port}"
    server.stop(0).wait()


def test_compare(call: Run, url: str) -> None:
    got = call(url, "compare", INPUTS, client={}, streams=["a", "b"], dictionary="tiny")
    assert got.dictionary == "tiny@0.1"
    assert [item.id for item in got.items] == ["x", "1", "2"]
    dog = Concept(id=3, label="dog", status="proposed", score=0.75, rate={"a": 0.5}, value=1.5)
    assert got.items[0].pairs == {
        "a|b": Pair(0.5, (dog,), (), (Concept(id=4),)),
        "a|c": Pair(None, (), (), ()),
    }
    assert got.items[1].pairs == {}
    assert got.items[1].error.detail == "no"


def test_translate(call: Run, url: str) -> None:
    got = call(url, "translate", INPUTS, "c", client={})
    assert [item.id for item in got.items] == ["x", "1", "2"]
    a, b = got.items[2].sources["a"], got.items[2].sources["b"]
    np.testing.assert_array_equal(a.activations_D, np.array([0.1, -2.0], np.float32))
    assert (a.activations_D.dtype, a.expected_fvu, b.expected_fvu) == (np.float32, 0.25, None)
    with pytest.raises(UnknownDictionaryError, match="refused"):
        call(url, "translate", INPUTS, "c", client={}, dictionary="nope")


def test_the_service_itself(ask: Run, served: Served) -> None:
    inputs = [Item(image=png(n), text="a dog", id=f"i{n}") for n in range(40)] + [Item(image=b"x")]
    got = ask("compare", inputs, streams=["tiny_a", "tiny_text"])
    assert [item.id for item in got.items] == [f"i{n}" for n in range(40)] + ["40"]
    assert got.items[40].error.type == "urn:koine:error:image"
    with Client(served.http) as client:
        codes = client.encode(inputs[:1]).items[0].codes
    pair = got.items[0].pairs["tiny_a|tiny_text"]
    a, b = (set(codes[name].indices_K.tolist()) for name in ("tiny_a", "tiny_text"))
    assert {c.id for c in pair.shared} == a & b
    assert ({c.id for c in pair.only_a}, {c.id for c in pair.only_b}) == (a - b, b - a)
    assert pair.jaccard == pytest.approx(len(a & b) / len(a | b), abs=1e-6)
    translated = ask("translate", inputs, "tiny_b")
    assert {n for n, item in enumerate(translated.items) if item.error} == {40}
    # an image is no less an input of the stream that it is translated to
    sources = translated.items[0].sources
    assert all(source.activations_D.shape == (16,) for source in sources.values())
    assert "tiny_text" in sources
    assert sorted(c.id for c in ask("concepts", page_size=9)) == list(range(64))


def test_concepts_of_all_pages(call: Run, url: str) -> None:
    got = call(url, "concepts", "do g", client={}, page_size=7)
    assert [(concept.id, concept.label) for concept in got] == [(3, "dog"), (4, None)]
