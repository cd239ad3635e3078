"""`POST /v1/encode`: what comes back for each kind of item, body and option."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from koine.artifact import Artifact
from koine.codes import PAD
from koine.encoder import ConceptEncoder
from koine.images import decode_image
from service.jobs import Selection, select_batch
from tests.service.inputs import b64, image_item, png

RTOL, ATOL = 1e-5, 1e-6
"""CPU matrix products sum in another order when the batch has another size: last bits differ."""
IMPORTED = {"imported": [0.5, -1, 2, 3, -4, 5, 6, -7, 8, 9.5]}


def encode(client: TestClient, inputs: list[Any], **options: Any) -> list[dict[str, Any]]:
    """The results, from an answer of 200."""
    answer = client.post("/v1/encode", json={"inputs": inputs, **options})
    assert answer.status_code == 200, answer.text
    assert answer.json()["dictionary"] == "tiny@0.1"
    return answer.json()["results"]


def same(a: dict[str, Any], b: dict[str, Any]) -> None:
    """Two items' codes agree: supports exactly, values to float noise."""
    assert a.keys() == b.keys()
    for name in a:
        assert a[name]["indices"] == b[name]["indices"]
        np.testing.assert_allclose(a[name]["values"], b[name]["values"], RTOL, ATOL)
        np.testing.assert_allclose(a[name]["fvu"], b[name]["fvu"], RTOL, ATOL)


@pytest.fixture(scope="module")
def encoder(tiny_artifact: Artifact) -> ConceptEncoder:
    return ConceptEncoder(tiny_artifact, providers=["CPUExecutionProvider"], threads=1)


def test_answers_are_those_of_the_encoder(client: TestClient, encoder: ConceptEncoder) -> None:
    result = encode(client, [image_item(3)])[0]
    batch = np.stack([encoder.preprocess("tiny_a", decode_image(png(3)))])
    codes = encoder.encode({"tiny_a": encoder.activations("tiny_a", batch)})["tiny_a"]
    active = codes.indices_NK[0] != PAD
    assert active.any()
    want = {"indices": codes.indices_NK[0][active].tolist(), "values": codes.values_NK[0][active]}
    same({"tiny_a": result["codes"]["tiny_a"]}, {"tiny_a": want | {"fvu": codes.fvu_N[0]}})


def test_streams_follow_the_modality_of_the_item(client: TestClient) -> None:
    results = encode(
        client,
        [
            image_item(1),
            {"text": "a dog"},
            image_item(1, text="a dog"),
            {"activations": IMPORTED},
            {"text": "a dog", "activations": IMPORTED},
        ],
    )
    assert [sorted(result["codes"]) for result in results] == [
        ["tiny_a", "tiny_b"],
        ["tiny_text"],
        ["tiny_a", "tiny_b", "tiny_text"],
        ["imported"],
        ["imported", "tiny_text"],
    ]
    same(results[0]["codes"], {n: results[2]["codes"][n] for n in ("tiny_a", "tiny_b")})
    same(results[1]["codes"], {"tiny_text": results[2]["codes"]["tiny_text"]})


def test_streams_can_be_chosen(client: TestClient) -> None:
    (result,) = encode(client, [image_item(1, text="a dog")], streams=["tiny_b"])
    assert list(result["codes"]) == ["tiny_b"]


def test_given_activations_go_before_the_image(client: TestClient, encoder: ConceptEncoder) -> None:
    acts = np.linspace(-1, 1, 24, dtype=np.float32)
    item = image_item(1, activations={"tiny_a": acts.tolist()})
    both, alone = encode(client, [item, {"activations": {"tiny_a": acts.tolist()}}])
    same({"tiny_a": both["codes"]["tiny_a"]}, alone["codes"])
    assert "tiny_b" in both["codes"]


def test_joint_streams_share_one_support(client: TestClient, encoder: ConceptEncoder) -> None:
    item = image_item(5, text="red square on grass", activations=IMPORTED)
    (joint,) = encode(client, [item], mode="joint")
    (independent,) = encode(client, [item], mode="independent")
    support = set().union(*(codes["indices"] for codes in joint["codes"].values()))
    assert len(support) <= encoder.k
    support = set().union(*(codes["indices"] for codes in independent["codes"].values()))
    assert len(support) > encoder.k


def test_joint_of_one_stream_is_independent(client: TestClient) -> None:
    (joint,) = encode(client, [{"text": "a cat"}], mode="joint")
    (independent,) = encode(client, [{"text": "a cat"}])
    same(joint["codes"], independent["codes"])


def test_items_are_numbered_by_position_unless_named(client: TestClient) -> None:
    inputs = [{"text": "a"}, {"id": "x", "text": "cat"}, {"text": "dog"}, {"id": "x", "text": "a"}]
    results = encode(client, inputs)
    assert [result["id"] for result in results] == ["0", "x", "2", "x"]
    same(results[0]["codes"], results[3]["codes"])


def test_entries_come_strongest_first_and_top_k_keeps_them(client: TestClient) -> None:
    (full,) = encode(client, [image_item(2)])
    (cut,) = encode(client, [image_item(2)], top_k=3)
    (beyond,) = encode(client, [image_item(2)], top_k=10_000)
    for name, codes in full["codes"].items():
        assert codes["values"] == sorted(codes["values"], reverse=True)
        assert min(codes["values"]) > 0
        assert cut["codes"][name]["indices"] == codes["indices"][:3]
        assert cut["codes"][name]["values"] == pytest.approx(codes["values"][:3], rel=RTOL)
    same(full["codes"], beyond["codes"])


def test_packed_holds_the_same_codes(client: TestClient, encoder: ConceptEncoder) -> None:
    inputs = [image_item(2), {"text": "a dog"}]
    for top_k in (None, 3):
        options = {} if top_k is None else {"top_k": top_k}
        listed = encode(client, inputs, **options)
        packed = encode(client, inputs, encoding="packed", **options)
        for plain, dense in zip(listed, packed, strict=True):
            for name, codes in plain["codes"].items():
                raw = base64.b64decode(dense["codes"][name]["packed"])
                assert len(raw) == encoder.k * 4
                indices = np.frombuffer(raw[: encoder.k * 2], "<u2")
                values = np.frombuffer(raw[encoder.k * 2 :], "<f2")
                n = len(codes["indices"])
                assert indices[:n].tolist() == codes["indices"]
                assert (indices[n:] == 0xFFFF).all()
                assert (values[n:] == 0).all()
                np.testing.assert_allclose(values[:n], codes["values"], 2**-11)  # half an f16 ulp
                assert dense["codes"][name]["fvu"] == pytest.approx(codes["fvu"], rel=RTOL)


def test_raw_image_body_with_options_in_the_query(client: TestClient) -> None:
    answer = client.post(
        "/v1/encode?streams=tiny_b&top_k=2", content=png(4), headers={"content-type": "image/png"}
    )
    assert answer.status_code == 200, answer.text
    (want,) = encode(client, [image_item(4)], streams=["tiny_b"], top_k=2)
    (result,) = answer.json()["results"]
    assert result["id"] == "0"
    same(result["codes"], want["codes"])


def test_multipart_parts_are_items_in_order(client: TestClient) -> None:
    parts = [
        ("image", ("one.png", png(1), "image/png")),
        ("text", (None, "a dog")),
        ("image[both]", ("two.png", png(2), "image/png")),
        ("text[both]", (None, "a cat")),
        ("photo", ("three.png", png(3), "application/octet-stream")),
        ("top_k", (None, "4")),
        ("mode", (None, "joint")),
    ]
    answer = client.post("/v1/encode", files=parts)
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert [result["id"] for result in results] == ["0", "1", "both", "3"]
    want = encode(
        client,
        [image_item(1), {"text": "a dog"}, image_item(2, text="a cat"), image_item(3)],
        top_k=4,
        mode="joint",
    )
    for got, expected in zip(results, want, strict=True):
        same(got["codes"], expected["codes"])


def test_one_corrupt_image_among_32_is_one_error(client: TestClient) -> None:
    inputs = [image_item(n) for n in range(32)]
    good = encode(client, inputs)
    inputs[17] = {"image": b64(png(17)[:200])}
    with_bad = encode(client, inputs)
    assert [n for n, result in enumerate(with_bad) if "error" in result] == [17]
    assert "codes" not in with_bad[17]
    assert with_bad[17]["error"]["type"] == "urn:koine:error:image"
    for n in range(32):
        if n != 17:
            assert with_bad[n]["id"] == good[n]["id"] == str(n)
            same(with_bad[n]["codes"], good[n]["codes"])


def test_an_answer_does_not_depend_on_its_company(client: TestClient) -> None:
    texts = ["a dog on grass", "a", "red circle photo a dog cat grass", "cat"]
    together = encode(client, [{"text": text} for text in texts])
    for text, result in zip(texts, together, strict=True):
        (alone,) = encode(client, [{"text": text}])
        same(alone["codes"], result["codes"])


def test_modes_and_streams_mix_in_one_batch(encoder: ConceptEncoder) -> None:
    rng = np.random.default_rng(1)

    def acts(*names: str) -> dict[str, np.ndarray]:
        return {n: rng.normal(size=encoder.streams[n].d_in).astype(np.float32) for n in names}

    batch = [
        Selection(acts("tiny_a", "tiny_text"), "joint"),
        Selection(acts("tiny_a", "tiny_text"), "independent"),
        Selection(acts("imported"), "joint"),
        Selection(acts("tiny_b"), "independent"),
        Selection(acts("tiny_a", "tiny_b", "imported"), "joint"),
    ]
    for item, rows in zip(batch, select_batch(batch, encoder), strict=True):
        (alone,) = select_batch([item], encoder)
        assert rows.keys() == alone.keys() == item.acts.keys()
        for name, row in rows.items():
            np.testing.assert_array_equal(row.indices_K, alone[name].indices_K)
            np.testing.assert_allclose(row.values_K, alone[name].values_K, RTOL, ATOL)
    first, second = select_batch(batch[:2], encoder)
    shared = {name: set(row.indices_K[row.indices_K != PAD]) for name, row in first.items()}
    assert len(set.union(*shared.values())) <= encoder.k
    own = {name: set(row.indices_K[row.indices_K != PAD]) for name, row in second.items()}
    assert len(set.union(*own.values())) > encoder.k


def test_all_items_bad_is_still_200(client: TestClient) -> None:
    results = encode(client, [{"text": ""}, {"image": ""}])
    assert all("error" in result for result in results)
