"""`POST /v1/localize`: an image and a concept or a text in, heat out."""

from __future__ import annotations

import asyncio
import base64
import io
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from google.protobuf.json_format import MessageToDict
from PIL import Image
from starlette.testclient import TestClient

from koine.artifact import Artifact
from koine.client import AsyncClient
from koine.encoder import ConceptEncoder
from koine.errors import OverloadedError, RequestError, UnknownConceptError
from koine.images import decode_image
from koine.localisation import Localisers, seen
from koine.proto.koine.v1 import concepts_pb2 as pb
from koine.sessions import CPU
from service.batcher import Batcher
from tests.localisable import write_localisable
from tests.service.conftest import serving
from tests.service.inputs import b64, file_bytes, pixels, png
from tests.service.rpc.conftest import both, refused, sample
from tests.service.test_unhappy_requests import problem_of
from tests.tiny import random_weights

PATH = "/v1/localize"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return write_localisable(tmp_path_factory.mktemp("localisable"))


@pytest.fixture(scope="module")
def client(artifact: Artifact) -> Iterator[TestClient]:
    with serving(artifact) as client:
        yield client


def localize(client: TestClient, **body: Any) -> dict[str, Any]:
    answer = client.post(PATH, json={"image": b64(png(1)), **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("stream", ["tiny_a", "tiny_b"])
def test_the_parts_of_the_patches_make_the_pre_code(
    client: TestClient, artifact: Artifact, stream: str
) -> None:
    found = localize(client, concept=7, stream=stream)
    grid_GG = np.array(found["grid"])
    assert grid_GG.shape == (4, 4)
    encoder = ConceptEncoder(artifact, providers=[CPU])
    acts_ND = encoder.activations(stream, encoder.preprocess(stream, decode_image(png(1)))[None])
    w = random_weights(acts_ND.shape[1], {"tiny_a": 0, "tiny_b": 1}[stream])
    unit_D = acts_ND[0] / np.linalg.norm(acts_ND[0])
    want = float(unit_D @ (w.encoder_CD[7] * w.scale))
    if stream == "tiny_a":  # its image is not moved
        np.testing.assert_allclose(grid_GG.mean(), want, rtol=1e-4)  # sums in another order
    assert np.ptp(grid_GG) > 0


def test_the_overlay_is_the_image_at_its_size_and_says_what_was_cut_off(
    client: TestClient, artifact: Artifact
) -> None:
    found = localize(client, concept=7)
    assert (found["stream"], found["dictionary"]) == ("tiny_a", "tiny@0.1")
    assert found["concept"] | {"rate": {}} == {
        "id": 7, "label": "DOG on grass", "status": "proposed", "score": 0.5, "rate": {},
    }  # fmt: skip
    assert found["found"] == {"by": "id", "value": None}
    image = Image.open(io.BytesIO(base64.b64decode(found["overlay"])))
    assert image.format == "PNG"
    assert image.size == (found["width"], found["height"]) == (50, 40)
    spec = Localisers(artifact.path, artifact.manifest, [CPU]).spec("tiny_a")
    assert found["seen"] == seen((50, 40), spec)._asdict()
    assert found["seen"] == {"left": 5, "top": 0, "right": 45, "bottom": 40}
    painted_HWC = np.asarray(image, int)
    assert not np.ptp(painted_HWC[:, :5], axis=2).any()
    assert np.ptp(painted_HWC[:, 5:45], axis=2).all()


def test_raw_images_and_forms_are_read_and_png_is_answered(client: TestClient) -> None:
    wanted = base64.b64decode(localize(client, concept=7)["overlay"])
    accept = {"Accept": "image/png"}
    raw = client.post(
        PATH,
        params={"concept": "7"},
        content=png(1),
        headers={"Content-Type": "image/png", **accept},
    )
    form = client.post(
        PATH, files={"image": ("a.png", png(1))}, data={"concept": "7"}, headers=accept
    )
    for answer in (raw, form):
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["koine-concept"] == "7"
        assert answer.content == wanted
    either = {"Accept": "application/json, image/png"}
    answer = client.post(PATH, json={"image": b64(png(1)), "concept": 7}, headers=either)
    assert answer.json()["concept"]["id"] == 7


def test_a_text_is_a_label_first(client: TestClient) -> None:
    found = localize(client, text="a DOG")
    assert found["concept"]["label"] == "dog"
    assert found["found"] == {"by": "label", "value": None}


def strong_text(artifact: Artifact) -> tuple[str, int, float]:
    """A text without a label whose codes are stronger than nonsense, its concept and the value."""
    encoder = ConceptEncoder(artifact, providers=[CPU])
    stream = artifact.manifest.stream("tiny_text")
    assert stream is not None
    assert stream.nonsense_value is not None
    for text in ("cat", "a cat", "circle", "red circle", "photo", "on", "square", "grass"):
        acts_ND = encoder.activations("tiny_text", encoder.tokenize("tiny_text", [text]))
        codes = encoder.encode({"tiny_text": acts_ND})["tiny_text"]
        value = float(codes.values_NK[0, 0])
        if value > stream.nonsense_value:
            return text, int(codes.indices_NK[0, 0]), value
    raise AssertionError("no word is stronger than nonsense")


def test_a_text_without_a_label_is_what_its_codes_say(
    client: TestClient, artifact: Artifact
) -> None:
    text, concept, value = strong_text(artifact)
    found = localize(client, text=text)
    assert found["concept"]["id"] == concept
    assert found["found"]["by"] == "codes"
    assert found["found"]["value"] == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"concept": 64}, 404, "ids go from 0 to 63"),
        ({"concept": -1}, 400, "`concept`"),
        ({"text": "zyx qwv"}, 404, "nonsense reaches .* the nearest labels are"),
        ({"text": "  "}, 400, "send 1 to"),
        ({"text": "a" * 100_001}, 400, "100001 characters"),
        ({}, 400, "either `concept`"),
        ({"concept": 1, "text": "dog"}, 400, "not both"),
        ({"concept": 1, "stream": "imported"}, 400, "choose one of tiny_a, tiny_b"),
        ({"concept": 1, "stream": "tiny_text"}, 400, "choose one of tiny_a, tiny_b"),
        ({"concept": 1, "stream": "x"}, 400, "it has tiny_a"),
        ({"concept": 1, "dictionary": "x"}, 404, "tiny@0.1"),
        ({"concept": 1, "image": b64(png(1)[:60])}, 400, "."),
        ({"concept": 1, "image": b64(b"no image")}, 400, "."),
        ({"concept": 1, "image": "https://example.org/a.png"}, 400, "fetches nothing"),
        ({"concept": 1, "image": 5}, 400, "`image`"),
        ({"concept": 1, "colour": "red"}, 400, "unknown key"),
    ],
)
def test_what_cannot_be_answered_is_refused(
    client: TestClient, body: dict[str, Any], status: int, words: str
) -> None:
    answer = client.post(PATH, json={"image": b64(png(1)), **body})
    problem = problem_of(answer, status)
    assert re.search(words, problem), problem


def test_bodies_without_an_image_are_refused(client: TestClient) -> None:
    assert "`image` is missing" in problem_of(client.post(PATH, json={"text": "dog"}), 400)
    form = client.post(PATH, files={"concept": (None, "1")})
    assert "no `image` part" in problem_of(form, 400)
    text = client.post(PATH, content=b"dog", headers={"Content-Type": "text/plain"})
    assert text.status_code == 415
    raw = {"Content-Type": "image/png"}
    odd = client.post(PATH, params={"concept": "x"}, content=png(1), headers=raw)
    assert "whole number" in problem_of(odd, 400)


def test_an_artifact_without_localisers_says_so(tiny_artifact: Artifact) -> None:
    with serving(tiny_artifact) as plain:
        answer = plain.post(PATH, json={"image": b64(png(1)), "concept": 1})
        assert "--localisers" in problem_of(answer, 400)


def test_limits_are_those_of_encoding(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(artifact, max_pixels=1000) as small:
        large = b64(file_bytes(pixels(1, 50, 50)))
        answer = small.post(PATH, json={"image": large, "concept": 1})
        assert "1,000" in problem_of(answer, 400)

        def full(self: Batcher[Any, Any], items: int, within_s: float = 0) -> None:
            raise OverloadedError(f"{self.name} is full", 0.01)

        image = {"image": b64(png(2)), "concept": 1}
        monkeypatch.setattr(Batcher, "room", full)
        answer = small.post(PATH, json=image, headers={"Koine-Timeout-Ms": "5"})
        assert "dictionary-localisers is full" in problem_of(answer, 429)
        monkeypatch.undo()
        never = asyncio.Event()

        async def stuck(*args: Any) -> None:
            await never.wait()

        monkeypatch.setattr("service.localisers.LocaliserQueue.decoded", stuck)
        answer = small.post(PATH, json=image, headers={"Koine-Timeout-Ms": "20"})
        problem_of(answer, 504)
        monkeypatch.undo()
        assert sample("koine_queue_items", queue="dictionary-localisers") == 0
        assert sample("koine_requests_total", route=PATH, outcome="overloaded") >= 1


def test_grpc_and_the_client_answer_the_same(artifact: Artifact) -> None:
    async def run() -> None:
        async with both(artifact) as service:
            body = {"image": b64(png(1)), "text": "dog", "stream": "tiny_b"}
            wanted = (await service.http.post(PATH, json=body)).json()
            request = pb.LocalizeRequest(image=png(1), text="dog", stream="tiny_b")
            call = service.unary("Localize", pb.LocalizeResponse)
            answer = await call(request)
            assert answer.overlay == base64.b64decode(wanted["overlay"])
            np.testing.assert_array_equal(
                np.array(answer.grid, np.float32),
                np.array(wanted["grid"], np.float32).ravel(),
            )
            seen = MessageToDict(answer.seen, always_print_fields_with_no_presence=True)
            assert seen == wanted["seen"]
            assert (answer.found.by, answer.concept.label) == ("label", "dog")
            assert not answer.found.HasField("value")
            await refused(call(pb.LocalizeRequest(image=png(1))), "INVALID_ARGUMENT", "either")
            await refused(call(pb.LocalizeRequest(concept=1)), "INVALID_ARGUMENT", "empty")
            unknown = pb.LocalizeRequest(image=png(1), text="zyx")
            await refused(call(unknown), "NOT_FOUND", "nearest labels")
            for url in ("http://koine", f"grpc://127.0.0.1:{service.port}"):
                transport = service.http._transport if url.startswith("http") else None
                async with AsyncClient(url, http_transport=transport) as koine:
                    found = await koine.localize(png(1), text="dog", stream="tiny_b")
                    assert found.overlay == answer.overlay
                    assert found.grid_GG.shape == (4, 4)
                    assert found.concept.label == "dog"
                    assert (found.found_by, found.value) == ("label", None)
                    assert found.seen._asdict() == wanted["seen"]
                    with pytest.raises(UnknownConceptError, match="nearest labels"):
                        await koine.localize(png(1), text="zyx")
                    with pytest.raises(RequestError, match="not both"):
                        await koine.localize(png(1), text="dog", concept=1)

    asyncio.run(run())
