"""`POST /v1/localize`: what it answers equals what koine computes, and how it refuses."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from koine.artifact import Artifact
from koine.audit.events import content_digest
from koine.encoder import ConceptEncoder
from koine.errors import OverloadedError
from koine.finding import Finder
from koine.images import decode_image, preprocess_image
from koine.localisation import Localisers
from koine.sessions import CPU
from service.lane import Lane
from tests.service.conftest import serving
from tests.service.inputs import b64, file_bytes, pixels, png
from tests.service.test_audit import Log
from tests.service.test_unhappy_requests import problem_of

URL = "/v1/localize"


@pytest.fixture(scope="module")
def localising(localising_artifact: Artifact) -> Iterator[TestClient]:
    with serving(localising_artifact, max_pixels=100_000) as client:
        yield client


def body(**more: Any) -> dict[str, Any]:
    return {"image": b64(png(1)), **more}


def test_the_answer_is_what_koine_computes(
    localising: TestClient, localising_artifact: Artifact
) -> None:
    answer = localising.post(URL, json=body(concept=5)).json()
    localisers = Localisers(localising_artifact, [CPU])
    image = decode_image(png(1))
    pixels_HWC = preprocess_image(image, localisers.spec("tiny_a"))
    patches = localisers.patches("tiny_a", pixels_HWC[None])
    wanted = localisers.localise("tiny_a", patches[0], 5, image.size)
    assert answer["stream"] == "tiny_a"
    assert answer["concept"]["id"] == 5
    assert answer["resolved"]["by"] == "id"
    assert answer["grid"]["side"] == 8
    # one graph on one thread and on all: sums in another order
    np.testing.assert_allclose(answer["grid"]["heat"], wanted.grid_GG, rtol=1e-4, atol=1e-6)
    assert answer["grid"]["box"] == list(wanted.box)
    assert (answer["width"], answer["height"]) == image.size
    shown = Image.open(io.BytesIO(base64.b64decode(answer["overlay"])))
    assert (shown.format, shown.size) == ("PNG", image.size)


def test_the_localisers_mean_is_the_backbones_activations(localising_artifact: Artifact) -> None:
    # for images whose edges repeat, moves change nothing: a flat one
    images = np.full((1, 32, 32, 3), 90, np.uint8)
    patches = Localisers(localising_artifact, [CPU]).patches("tiny_a", images)
    acts = ConceptEncoder(localising_artifact, providers=[CPU]).activations("tiny_a", images)
    assert patches.shape == (1, 64, 24)
    np.testing.assert_allclose(patches.mean(1), acts, rtol=1e-4, atol=1e-5)


def test_an_image_or_a_form_is_the_same_as_json(localising: TestClient) -> None:
    wanted = localising.post(URL, json=body(concept=5)).json()
    raw = localising.post(
        URL, params={"concept": 5}, content=png(1), headers={"content-type": "image/png"}
    )
    form = localising.post(URL, files={"image": png(1)}, data={"concept": "5"})
    assert raw.json() == wanted
    assert form.json() == wanted


def test_png_is_the_overlay_itself(localising: TestClient) -> None:
    wanted = localising.post(URL, json=body(concept=5)).json()["overlay"]
    answer = localising.post(URL, json=body(concept=5), headers={"accept": "image/png"})
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["koine-concept"] == "5"
    assert answer.content == base64.b64decode(wanted)


def test_a_label_goes_before_the_text_stream(localising: TestClient) -> None:
    answer = localising.post(URL, json=body(text="a Dog in the rain")).json()
    assert answer["concept"]["id"] == 8
    assert answer["resolved"]["by"] == "label"
    assert answer["resolved"]["score"] == 0.2


def test_a_text_without_label_is_read_by_the_text_stream(
    localising: TestClient, localising_artifact: Artifact
) -> None:
    encoder = ConceptEncoder(localising_artifact, providers=[CPU])
    floor = Finder(encoder).floor
    texts = ["red circle", "a cat", "cat on grass", "photo circle", "square", "cat", "a photo"]
    codes = encoder.encode(
        {"tiny_text": encoder.activations("tiny_text", encoder.tokenize("tiny_text", texts))}
    )["tiny_text"]
    n = int(codes.values_NK[:, 0].argmax())
    assert codes.values_NK[n, 0] > floor  # else another text is needed here
    resolved = localising.post(URL, json=body(text=texts[n])).json()["resolved"]
    assert resolved["by"] == "text_stream"
    assert resolved["stream"] == "tiny_text"
    assert resolved["score"] == pytest.approx(float(codes.values_NK[n, 0]), rel=1e-5)
    assert resolved["score"] > resolved["floor"] == pytest.approx(floor)
    assert [m["concept"] for m in resolved["matches"]] == codes.indices_NK[n, :3].tolist()


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    (body(), 400, "neither"),
    (body(concept=5, text="dog"), 400, "both"),
    (body(concept=64), 404, "ids go from 0 to 63"),
    (body(concept=-1), 400, "concept"),
    (body(text="xyzzy qwrt"), 404, "nearest labels are"),
    (body(text="  "), 400, "empty"),
    (body(text="dog " * 50_000), 400, "the limit is"),
    (body(concept=5, stream="tiny_b"), 400, "choose one of tiny_a"),
    (body(concept=5, stream="tiny_text"), 400, "choose one of tiny_a"),
    (body(concept=5, stream="ear"), 400, "no stream of this dictionary"),
    (body(concept=5, dictionary="other"), 404, "not served here"),
    ({"image": b64(png(1)[:90]), "concept": 5}, 400, "truncated or damaged"),
    ({"image": b64(b"no image"), "concept": 5}, 400, "no image of a known format"),
    ({"image": "http://x/y.png", "concept": 5}, 400, "fetches nothing"),
    ({"concept": 5}, 400, "`image` is missing"),
    (body(concept=5, k=1), 400, "unknown key `k`"),
]


@pytest.mark.parametrize(("sent", "status", "told"), REFUSED)
def test_what_cannot_be_answered_is_refused(
    localising: TestClient, sent: dict[str, Any], status: int, told: str
) -> None:
    answer = localising.post(URL, json=sent)
    problem_of(answer, status)
    assert told in answer.json()["detail"]


def test_a_huge_image_is_refused_before_it_is_decoded(localising: TestClient) -> None:
    huge = file_bytes(pixels(1, 400, 400))
    answer = localising.post(URL, json={"image": b64(huge), "concept": 5})
    problem_of(answer, 400)
    assert "400×400" in answer.json()["detail"]


def test_other_media_types_are_refused(localising: TestClient) -> None:
    answer = localising.post(URL, content=b"x", headers={"content-type": "text/plain"})
    assert answer.status_code == 415


def test_a_dictionary_without_localisers_says_so(client: TestClient) -> None:
    answer = client.post(URL, json=body(concept=5))
    problem_of(answer, 400)
    assert "export the run with --localisers" in answer.json()["detail"]


def test_requests_are_counted(localising: TestClient) -> None:
    localising.post(URL, json=body(concept=5))
    assert f'route="{URL}"' in localising.get("/metrics").text


def test_what_is_asked_about_is_recorded(localising_artifact: Artifact, tmp_path: Path) -> None:
    log = Log(tmp_path)
    with serving(localising_artifact, **log.settings) as client:
        assert client.post(URL, json=body(text="dog")).status_code == 200
        assert client.post(URL, json=body(concept=64)).status_code == 404
    found = log.events("encode")
    assert [event.outcome for event in found] == ["ok", "UnknownConceptError"]
    assert found[0].content["image"] == content_digest(png(1))
    assert found[0].content["text"] == content_digest(b"dog")
    assert not found[0].codes


def test_a_full_lane_refuses_and_opens_again() -> None:
    async def run() -> None:
        lane, gate = Lane("localize", most=2), asyncio.Event()
        loop = asyncio.get_running_loop()

        def work() -> int:
            asyncio.run_coroutine_threadsafe(gate.wait(), loop).result()
            return 1

        under_way = [asyncio.create_task(lane.run(work)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="2 requests to localize are under way"):
            await lane.run(work)
        gate.set()
        assert await asyncio.gather(*under_way) == [1, 1]
        assert await lane.run(work) == 1
        lane.close()

    asyncio.run(run())
